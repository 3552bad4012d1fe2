"""What tests of pages share."""

import pytest

from browser import browsing, find_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page of headless Chromium."""
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page

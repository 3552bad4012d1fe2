"""What a person says of clusters: files that are read or refused, and the clusters that come of them."""

import re

import numpy as np
import pytest

from deep_clustering.methods.corrections import as_corrected
from deep_clustering.methods.feedback import Change, Pair, apply_feedback, read_feedback
from deep_clustering.training.described import Described, Describing

# Four clusters on a line. Cluster 3 is two groups, of three rows and of two.
LATENT = np.array([0.0, 0.1, 5.0, 5.1, 10.0, 20.0, 20.1, 20.2, 30.0, 30.1], dtype=np.float32)[:, None]
CLUSTERS = np.array([0, 0, 1, 1, 2, 3, 3, 3, 3, 3])


class Known(Describing):
    """A method that knows the ten rows by their number."""

    def describe(self, features):
        responsibilities = np.eye(4, dtype=np.float32)[CLUSTERS[features]]
        return Described(CLUSTERS[features], responsibilities, LATENT[features], None)


def write(tmp_path, text):
    file = tmp_path / "feedback.csv"
    file.write_text(text, encoding="utf-8")
    return file


def correct(tmp_path, text, method=None, is_fitted=None):
    method = method or as_corrected(Known())
    is_fitted = np.ones(10, dtype=bool) if is_fitted is None else is_fitted
    said = method.describe(np.arange(10))
    return apply_feedback(read_feedback(write(tmp_path, text)), method, said, is_fitted, 0)


def clusters(method):
    return method.predict(np.arange(10)).tolist()


def test_a_file_about_clusters_is_read(tmp_path):
    text = "\ufeffcluster, name ,split,merge_into\n3,Tür,,1\n\n2,,4,\n"
    assert read_feedback(write(tmp_path, text)).changes == (
        Change(2, 3, "Tür", 1, None),
        Change(4, 2, "", None, 4),
    )


def test_a_file_about_pairs_is_read(tmp_path):
    assert read_feedback(write(tmp_path, "row_a,row_b,same\n1,2,0\n")).pairs == (Pair(2, 1, 2, 0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'cluster'"),
        ("cluster,name\n", "expected a line for each change, got a header only"),
        ("row_a,row_b\n1,2\n", "line 1: no column 'same'"),
        ("cluster,nmae\n1,a\n", r"line 1: column 'nmae' cannot be used \(did you mean 'name'\?\)"),
        ("cluster,name,name\n1,a,b\n", "column 'name' cannot be used"),
        ("cluster,name\n1,a,b\n", "line 2: more cells than the header"),
        ("cluster,name\nx,a\n", "line 2, column 'cluster': got 'x', expected a whole number"),
        ("cluster,name\n,a\n", "line 2, column 'cluster': is empty"),
        ("cluster,split\n1,1\n", "line 2, column 'split': got '1', expected a whole number, at least 2"),
        ("cluster,merge_into\n1,1\n", "line 2, column 'merge_into': got 1, the cluster itself"),
        ("cluster,merge_into,split\n1,2,2\n", "line 2, column 'split': a cluster is either split or merged"),
        ("cluster,name\n0,a\n1,\n", "line 3, column 'cluster': nothing is said of cluster 1"),
        ("row_a,row_b,same\n1,1,1\n", "line 2, column 'row_b': got 1, the row of row_a"),
        ("row_a,row_b,same\n1,2,2\n", "line 2, column 'same': got '2', expected a whole number, 0 to 1"),
        ("row_a,row_b,same\n1,-2,1\n", "line 2, column 'row_b': got '-2'"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_line_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_feedback(write(tmp_path, text))


def test_a_missing_file_and_another_encoding_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*expected a CSV with the columns cluster"):
        read_feedback(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("cluster,name\n1,Tür\n".encode("latin-1"))
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_feedback(tmp_path / "latin.csv")


def test_merged_clusters_share_a_number_and_the_others_keep_theirs(tmp_path):
    merged = correct(tmp_path, "cluster,merge_into\n0,2\n")
    assert clusters(merged) == [2, 2, 1, 1, 2, 3, 3, 3, 3, 3]
    assert merged.there(4) == [1, 2, 3]


def test_the_larger_part_keeps_the_number_and_the_other_gets_a_new_one(tmp_path):
    assert clusters(correct(tmp_path, "cluster,split\n3,2\n")) == [0, 0, 1, 1, 2, 3, 3, 3, 4, 4]


def test_parts_are_found_in_the_fitted_rows(tmp_path):
    is_fitted = np.ones(10, dtype=bool)
    is_fitted[8:] = False  # what is left are the rows 20.0, 20.1 and 20.2
    parts = correct(tmp_path, "cluster,split\n3,3\n", is_fitted=is_fitted)
    assert len(set(clusters(parts)[5:8])) == 3
    assert clusters(parts)[8] == clusters(parts)[9] == clusters(parts)[7]


def test_names_are_kept_through_later_changes_and_go_with_the_number(tmp_path):
    named = correct(tmp_path, "cluster,name,merge_into,split\n1,one,,\n3,three,,2\n")
    assert named.names == {1: "one", 3: "three"}
    later = correct(tmp_path, "cluster,name,merge_into\n1,,2\n4,four,\n", method=named)
    assert later.names == {3: "three", 4: "four"}
    assert clusters(later) == [0, 0, 2, 2, 2, 3, 3, 3, 4, 4]
    again = correct(tmp_path, "cluster,split\n3,2\n", method=later)
    assert max(clusters(again)) == 5  # 1 is gone, and no other cluster gets its number
    assert again.names == later.names


def test_a_name_beside_a_merge_is_that_of_both(tmp_path):
    assert correct(tmp_path, "cluster,name,merge_into\n0,x,1\n").names == {1: "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster,name\n4,a\n", r"line 2, column 'cluster': there is no cluster 4 \(there are 0, 1, 2, 3\)"),
        ("cluster,merge_into\n0,9\n", "line 2, column 'merge_into': there is no cluster 9"),
        ("cluster,name\n0,a\n0,b\n", "line 3, column 'cluster': line 2 is about cluster 0 too"),
        (
            "cluster,merge_into\n0,1\n1,2\n",
            r"line 2, column 'merge_into': cluster 1 is itself merged into 2 \(line 3\)",
        ),
        ("cluster,merge_into,split\n0,3,\n3,,2\n", "line 2, column 'merge_into': cluster 3 is itself split"),
        ("cluster,split\n0,3\n", "line 2, column 'split': got 3, but cluster 0 has 2 different rows"),
        ("cluster,name\n0,a\n1,a\n", "line 2, column 'name': clusters 0 and 1 would both be called 'a'"),
        ("cluster,name,merge_into\n0,a,1\n1,b,\n", "line 2, column 'name': got 'a', but cluster 1 is called 'b'"),
        ("row_a,row_b,same\n0,10,1\n", "line 2, column 'row_b': there is no row 10; rows go from 0 to 9"),
        ("row_a,row_b,same\n0,2,1\n2,4,1\n0,4,0\n", "join clusters 0 and 2 through others"),
        ("row_a,row_b,same\n5,8,0\n5,0,1\n", "cluster 3 is two, and that it is one with another"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        correct(tmp_path, text)


def test_pairs_vote_for_merges_and_the_larger_cluster_keeps_its_number(tmp_path):
    text = "row_a,row_b,same\n4,0,1\n1,4,1\n0,4,0\n0,2,0\n2,3,1\n"  # 2:1 for 0 and 2; 0 and 1 stay apart
    assert clusters(correct(tmp_path, text)) == [0, 0, 1, 1, 0, 3, 3, 3, 3, 3]


def test_a_tie_changes_nothing(tmp_path):
    assert clusters(correct(tmp_path, "row_a,row_b,same\n0,2,1\n1,2,0\n5,8,0\n5,9,1\n")) == CLUSTERS.tolist()


def test_pairs_within_a_cluster_part_it_whichever_row_comes_first(tmp_path):
    text = "row_a,row_b,same\n5,8,0\n9,7,0\n5,6,1\n"
    assert clusters(correct(tmp_path, text)) == [0, 0, 1, 1, 2, 3, 3, 3, 4, 4]


def test_the_log_says_how_many_pairs_are_met(tmp_path, caplog):
    with caplog.at_level("INFO"):
        correct(tmp_path, "row_a,row_b,same\n4,0,1\n1,4,1\n0,4,0\n")
    assert re.search("2 of 3 pairs are met", caplog.text)

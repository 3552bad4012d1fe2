"use strict";
// Figures are saved as SVG or PNG, folded parts open in print and where a link leads, all without a request.
{
  const SCALE = 3; // pixels of a PNG for each CSS pixel

  const give = (address, name) => {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
  };

  const draw = (image) => {
    const canvas = document.createElement("canvas");
    canvas.width = SCALE * image.naturalWidth;
    canvas.height = SCALE * image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/png");
  };

  for (const bar of document.querySelectorAll(".save")) {
    const image = bar.closest("figure").querySelector("img");
    const name = `${document.title} ${bar.dataset.name}`.replace(/[^\p{L}\p{N}]+/gu, "_");
    for (const button of bar.querySelectorAll("button")) {
      const kind = button.value;
      button.addEventListener("click", () => give(kind === "png" ? draw(image) : image.src, `${name}.${kind}`));
    }
    bar.hidden = false;
  }

  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...folded()];
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
  const unfold = () => {
    const part = location.hash && document.querySelector(`${location.hash} > details`);
    if (part) part.open = true;
  };
  window.addEventListener("hashchange", unfold);
  unfold();
}

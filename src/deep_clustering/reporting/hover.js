// The sample nearest to the pointer, ringed on every map, with its thumbnail or terms beside the pointer.
const points = JSON.parse(document.getElementById("points").textContent);
const sprite = document.getElementById("sprite");
const tip = document.getElementById("tip");
const canvas = tip.querySelector("canvas");
const text = tip.querySelector("p");
const REACH = 24; // CSS pixels

const maps = [...document.querySelectorAll("[data-frame]")].map((place) => {
  const [ax, bx, ay, by] = place.dataset.frame.split(" ").map(Number);
  const ring = document.createElement("i");
  ring.className = "ring";
  ring.hidden = true;
  place.append(ring);
  return { place, ring, x: points.x.map((x) => ax * x + bx), y: points.y.map((y) => ay * y + by) };
});

function nearest(map, x, y, width, height) {
  let best = -1;
  let least = REACH * REACH;
  for (let i = 0; i < map.x.length; i += 1) {
    const distance = (map.x[i] * width - x) ** 2 + (map.y[i] * height - y) ** 2;
    if (distance < least) {
      least = distance;
      best = i;
    }
  }
  return best;
}

function hide() {
  tip.hidden = true;
  for (const map of maps) map.ring.hidden = true;
}

function describe(i) {
  const name = points.names[points.cluster[i]];
  const cluster = `cluster ${points.cluster[i]}${name ? ` (${name})` : ""}`;
  const lines = [`row ${points.row[i]}`, `${cluster}, certainty ${points.certainty[i]}`];
  if (points.label[i]) lines.push(`class ${points.label[i]}`);
  if (points.note.length && points.note[i]) lines.push(points.note[i]);
  text.textContent = lines.join("\n");
  canvas.hidden = !sprite;
  if (!sprite) return;
  const { width, height, columns } = points;
  const scale = Math.max(1, Math.round(80 / Math.max(width, height)));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const left = (i % columns) * width;
  const top = Math.floor(i / columns) * height;
  context.drawImage(sprite, left, top, width, height, 0, 0, canvas.width, canvas.height);
}

function show(i, x, y) {
  describe(i);
  for (const map of maps) {
    map.ring.hidden = false;
    map.ring.style.left = `${100 * map.x[i]}%`;
    map.ring.style.top = `${100 * map.y[i]}%`;
  }
  tip.hidden = false;
  const room = document.documentElement;
  const right = x + 16 + tip.offsetWidth > room.clientWidth ? x - 16 - tip.offsetWidth : x + 16;
  const below = y + 16 + tip.offsetHeight > room.clientHeight ? y - 16 - tip.offsetHeight : y + 16;
  tip.style.left = `${Math.max(4, Math.min(right, room.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, below)}px`;
}

for (const map of maps) {
  let current = -1;
  const follow = (event) => {
    const box = map.place.getBoundingClientRect();
    current = nearest(map, event.clientX - box.left, event.clientY - box.top, box.width, box.height);
    if (current < 0) hide();
    else show(current, event.clientX, event.clientY);
  };
  map.place.addEventListener("pointermove", follow);
  map.place.addEventListener("pointerdown", follow);
  map.place.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") hide();
  });
  map.place.addEventListener("blur", hide);
  map.place.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    current = (current + step + map.x.length) % map.x.length;
    const box = map.place.getBoundingClientRect();
    show(current, box.left + map.x[current] * box.width, box.top + map.y[current] * box.height);
  });
}
document.addEventListener("scroll", hide, { passive: true });

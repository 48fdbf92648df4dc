// The bar drawings of the files, and the navigation.
{
  const orders = JSON.parse(document.getElementById("order-data").textContent);
  for (const figure of document.querySelectorAll("[data-order]")) {
    const { rows } = orders[Number(figure.dataset.order)];
    const plot = figure.querySelector(".plot");
    const at = figure.querySelector(".at");
    const output = figure.querySelector("output");
    const rowOf = (event) => {
      const box = plot.getBoundingClientRect();
      const place = Math.floor(((event.clientX - box.left) / box.width) * rows.length);
      return Math.min(Math.max(0, place), rows.length - 1);
    };
    plot.addEventListener("pointermove", (event) => {
      const place = rowOf(event);
      const [name, difference, clip] = rows[place];
      at.hidden = false;
      at.style.left = `${(100 * (place + 0.5)) / rows.length}%`;
      output.textContent = `${name}: ${difference}`;
      plot.style.cursor = clip ? "pointer" : "";
    });
    plot.addEventListener("pointerleave", () => { at.hidden = true; output.textContent = "\u00a0"; });
    plot.addEventListener("click", (event) => {
      const clip = rows[rowOf(event)][2];
      if (clip) document.getElementById(clip).scrollIntoView();
    });
  }

  const links = [...document.querySelectorAll(".top nav a")];
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links) {
        const isHere = link.hash === `#${entry.target.id}`;
        link.toggleAttribute("aria-current", isHere);
        if (isHere) link.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const link of links) observer.observe(document.querySelector(link.hash));
}

(() => {
  const form = document.getElementById("filter");
  const field = (id) => document.getElementById(id);
  const rows = Array.from(document.querySelectorAll("#list tbody tr"), (row) => ({ row, text: row.textContent.toLowerCase() }));
  const apply = () => {
    const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const severity = field("severity").value;
    const node = field("node").value;
    let shown = 0;
    for (const { row, text } of rows) {
      const fits = (!severity || row.dataset.severity === severity) && (!node || row.dataset.node === node) &&
        words.every((word) => text.includes(word));
      row.hidden = !fits;
      if (fits) shown++;
    }
    field("shown").textContent = shown + " of " + rows.length;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();

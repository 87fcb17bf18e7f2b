// What a browser adds to pages that work without it: a decision in a dialog above the list, and one tick for all rows.

for (const link of document.querySelectorAll("a[data-dialog]")) {
  const dialog = document.getElementById(link.dataset.dialog);
  link.setAttribute("role", "button");
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.showModal(); // takes the focus, keeps it inside, gives it back, and closes at Escape
  });
  link.addEventListener("keydown", (event) => {
    if (event.key === " ") { // what says that it is a button is pressed like one
      event.preventDefault();
      link.click();
    }
  });
  for (const close of dialog.querySelectorAll("[data-close]")) {
    close.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
  }
}

for (const all of document.querySelectorAll("input[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const one of all.closest("table").querySelectorAll("input[name=item]")) one.checked = all.checked;
  });
}

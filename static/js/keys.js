// The keyboard: / finds, g and a letter goes, ? helps.
(() => {
  const places = { h: "/", w: "/workloads", d: "/deploy", o: "/operations", c: "/admin/clusters", u: "/admin/users", a: "/admin/audit" };
  let going = 0;

  addEventListener("keydown", (e) => {
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
    const at = e.target instanceof Element ? e.target : document.body;
    if (at.closest("input, textarea, select, [contenteditable]")) {
      if (e.key === "Escape" && at.id === "search") at.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const went = Date.now() - going < 1500;
    going = 0;
    if (went && places[e.key]) {
      const link = document.querySelector(`nav.side a[href="${places[e.key]}"]`);
      if (link) {
        e.preventDefault();
        link.click();
      }
    } else if (e.key === "g") {
      going = Date.now();
    } else if (e.key === "/") {
      const search = document.getElementById("search");
      if (search) {
        e.preventDefault();
        search.focus();
        search.select();
      }
    } else if (e.key === "?") {
      document.getElementById("keys")?.showModal();
    }
  });
})();

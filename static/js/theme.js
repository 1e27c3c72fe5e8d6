// Runs in the head, before anything is painted: the chosen theme, and the mark
// that scripts run.
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  const stored = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const show = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    document.querySelectorAll("[data-theme-switch]").forEach((b) => {
      b.setAttribute("aria-label", `Theme: ${root.dataset.theme ?? "as the system"}`);
      b.title = b.getAttribute("aria-label");
    });
  };
  show(stored());

  addEventListener("DOMContentLoaded", () => show(stored()));
  addEventListener("storage", (e) => { if (e.key === "theme") show(e.newValue); });
  addEventListener("click", (e) => {
    if (!e.target.closest("[data-theme-switch]")) return;
    const next = { light: "dark", dark: "system" }[root.dataset.theme] ?? "light";
    try { localStorage.setItem("theme", next); } catch { /* kept for this page only */ }
    show(next);
  });
})();

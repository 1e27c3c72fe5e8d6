// A form that is sent after the session has ended is answered with the page for
// signing in. What was typed, secrets left out, is kept in this tab until then
// and put back for the same person.
(() => {
  const KEY = "draft";
  const stored = (value) => {
    try {
      if (value === undefined) return JSON.parse(sessionStorage.getItem(KEY));
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, JSON.stringify(value));
    } catch { /* nothing is kept */ }
    return null;
  };
  const person = () => document.body?.dataset.person;
  const action = (form) => form.getAttribute("action");

  const keep = (form) => {
    if (!person() || !form || form.method !== "post") return;
    const fields = [];
    for (const el of form.elements) {
      if (!el.name || el.type === "password" || el.type === "file" || el.dataset.secret !== undefined || el.localName === "button") continue;
      const choice = el.type === "radio" || el.type === "checkbox";
      fields.push(choice ? { name: el.name, of: el.value, on: el.checked } : { name: el.name, value: el.value });
    }
    stored({ person: person(), action: action(form), fields });
  };
  addEventListener("submit", (e) => e.defaultPrevented || keep(e.target));
  document.addEventListener("htmx:before:response", (e) => {
    const { hx, sourceElement } = e.detail?.ctx ?? {};
    if (hx?.redirect) keep(sourceElement?.form); // any other answer leaves the form where it is
  });

  const putBack = (form, fields) => {
    for (const { name, value, of, on } of fields) {
      for (const el of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
        if (of === undefined) el.value = value;
        else if (el.value === of) el.checked = on;
        else continue;
        if (value || on) for (let d = el.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
      }
    }
    form.querySelector("[name=runtime]:checked")?.dispatchEvent(new Event("change", { bubbles: true }));
    const words = document.createElement("p");
    words.className = "callout warning";
    words.tabIndex = -1;
    words.setAttribute("role", "status");
    words.dataset.restored = "";
    words.textContent = "What you had typed is back, except secrets. Nothing has been saved yet.";
    form.before(words);
    words.focus();
  };
  addEventListener("DOMContentLoaded", () => {
    const draft = stored();
    if (!draft) return;
    if (document.querySelector("[data-unsaved]")) stored({ ...draft, due: true });
    else if (document.querySelector("form[action='/login']")) stored(null); // nobody is to come back to it
    if (!person()) return;
    stored(null);
    if (!draft.due || draft.person !== person()) return;
    const form = [...document.forms].find((f) => f.method === "post" && action(f) === draft.action && f.checkVisibility());
    if (form?.querySelector("input:not([type=hidden]), textarea, select")) putBack(form, draft.fields);
  });
})();

// What every page has: relative times that stay true, dialogs, copying, toasts.
const portolan = {
  toast(text) {
    const place = document.getElementById("toasts");
    if (!place) return;
    const p = document.createElement("p");
    p.textContent = text;
    place.append(p);
    setTimeout(() => p.remove(), 4000);
  },
};

(() => {
  // The words are those of ui.Relative and ui.Took.
  const relative = (then, now) => {
    const s = Math.floor(Math.abs(now - then) / 1000);
    if (then > now) return s < 60 * 86400 ? `in ${left(s)}` : null;
    if (s < 5) return "just now";
    let words;
    if (s < 60) words = `${s} s`;
    else if (s < 3600) words = `${Math.floor(s / 60)} min`;
    else if (s < 48 * 3600) words = `${Math.floor(s / 3600)} h`;
    else if (s < 60 * 86400) words = `${Math.floor(s / 86400)} days`;
    else return null;
    return `${words} ago`;
  };
  const left = (s) => {
    const two = (n, unit, m, smaller) => (n >= 10 || !m ? `${n} ${unit}` : `${n} ${unit} ${m} ${smaller}`);
    if (s < 60) return `${s} s`;
    if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
    if (s < 48 * 3600) return two(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
    return two(Math.floor(s / 86400), "days", Math.floor(s / 3600) % 24, "h");
  };
  const took = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min` + (s % 60 ? ` ${s % 60} s` : "");
    return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  };
  const put = (el, words) => {
    if (words !== null && el.textContent !== words) el.textContent = words;
  };
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now();
    document.querySelectorAll("time[data-ago]").forEach((el) => put(el, relative(Date.parse(el.dateTime), now)));
    document.querySelectorAll("time[data-since]").forEach((el) => put(el, took(now - Date.parse(el.dateTime))));
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);

  addEventListener("click", async (e) => {
    const target = e.target instanceof Element ? e.target : null;
    const opener = target?.closest("[data-open]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.open);
      if (dialog && !e.ctrlKey && !e.metaKey && !e.shiftKey) {
        e.preventDefault();
        document.querySelectorAll(":popover-open").forEach((p) => p.hidePopover());
        dialog.showModal();
      }
      return;
    }
    if (target?.closest("dialog [data-close]")) {
      e.preventDefault();
      target.closest("dialog").close();
      return;
    }
    if (target?.tagName === "DIALOG") {
      const box = target.getBoundingClientRect();
      if (e.clientX < box.left || e.clientX > box.right || e.clientY < box.top || e.clientY > box.bottom) target.close();
      return;
    }
    const field = document.getElementById(target?.closest("[data-copy]")?.dataset.copy);
    if (field) {
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
        portolan.toast("Copied.");
      } catch {
        portolan.toast("Could not copy: it is selected, copy it by hand.");
      }
      return;
    }
    const copier = target?.closest("[data-copy-from]");
    if (copier) {
      try {
        const answer = await fetch(copier.dataset.copyFrom);
        if (!answer.ok) throw new Error(answer.statusText);
        await navigator.clipboard.writeText(await answer.text());
        portolan.toast("Copied.");
      } catch {
        portolan.toast("Could not copy: download it instead.");
      }
    }
  });
})();

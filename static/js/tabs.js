// Turns the sections of a page into tabs. Without it they stand one below the
// other.
(() => {
  const name = (tab, panel, count) => {
    const words = count && count !== "0" ? `${panel.dataset.tab} ${count}` : panel.dataset.tab;
    if (tab.textContent !== words) tab.textContent = words;
  };
  const build = (root) => {
    const panels = [...root.children].filter((el) => el.dataset.tab);
    const list = document.createElement("div");
    list.className = "tab-list";
    list.setAttribute("role", "tablist");
    const tabs = panels.map((panel) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `tab-${panel.id}`;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      name(tab, panel, panel.dataset.tabCount);
      if (panel.dataset.tabCount) {
        new MutationObserver(() => name(tab, panel, String(panel.querySelectorAll("tbody > tr").length))).observe(panel, { childList: true, subtree: true });
      }
      panel.setAttribute("role", "tabpanel");
      panel.removeAttribute("aria-label");
      panel.setAttribute("aria-labelledby", tab.id);
      list.append(tab);
      return tab;
    });
    const choose = (i, focus) => {
      tabs.forEach((tab, j) => {
        tab.setAttribute("aria-selected", String(i === j));
        tab.tabIndex = i === j ? 0 : -1;
        panels[j].hidden = i !== j;
      });
      if (focus) tabs[i].focus();
    };
    const fromHash = () => Math.max(0, panels.findIndex((p) => `#${p.id}` === location.hash));
    list.addEventListener("click", (e) => {
      const i = tabs.indexOf(e.target.closest("[role=tab]"));
      if (i < 0) return;
      choose(i);
      history.replaceState(history.state, "", `#${panels[i].id}`);
    });
    list.addEventListener("keydown", (e) => {
      const now = tabs.indexOf(document.activeElement);
      const last = tabs.length - 1;
      const to = { ArrowLeft: now ? now - 1 : last, ArrowRight: now < last ? now + 1 : 0, Home: 0, End: last }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      choose(to, true);
    });
    addEventListener("hashchange", () => choose(fromHash()));
    root.prepend(list);
    choose(fromHash());
  };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-tabs]").forEach(build));
})();

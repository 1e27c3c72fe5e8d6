// Forms work without this; it keeps a button from being pressed twice, and
// fills in what a choice suggests.
(() => {
  const busy = new Set();

  addEventListener("submit", (e) => {
    const form = e.target;
    if (e.defaultPrevented || form.method !== "post") return;
    if (busy.has(form)) {
      e.preventDefault();
      return;
    }
    busy.add(form);
    // After the browser has collected the fields, the pressed button among them.
    setTimeout(() => {
      if (!busy.has(form)) return;
      form.querySelectorAll("button:not([type=button])").forEach((b) => {
        if (b.disabled) return;
        b.disabled = true;
        b.dataset.wasEnabled = "";
        if (b === e.submitter) b.setAttribute("aria-busy", "true");
      });
    });
  });
  const release = () => {
    busy.clear();
    document.querySelectorAll("button[data-was-enabled]").forEach((b) => {
      b.disabled = false;
      b.removeAttribute("aria-busy");
      delete b.dataset.wasEnabled;
    });
  };
  addEventListener("pageshow", (e) => e.persisted && release());
  window.navigation?.addEventListener("navigateerror", release); // stopped while it was under way

  // Typing the name is what arms the button.
  const arm = (form) => {
    const typed = form.elements.confirm;
    const button = form.querySelector("button.danger");
    if (typed && button) button.disabled = typed.value.trim() !== form.dataset.confirm;
  };
  addEventListener("input", (e) => {
    const form = e.target.closest?.("form[data-confirm]");
    if (form) arm(form);
  });

  addEventListener("change", (e) => {
    const el = e.target;
    if (el.matches("form[data-auto] select")) el.form.requestSubmit();
    if (el.name === "provider" && el.closest("[data-provider-form]")) suggest(el.form);
    if (el.name === "target" && el.closest(".targets")) limits(el);
    if (el.name === "runtime" && el.closest("[data-runtimes]")) runtime(el);
    if (el.matches("input[type=file][data-fill]") && el.files[0]) read(el.files[0], document.getElementById(el.dataset.fill));
  });

  // A value that a person has typed is never replaced: only what is empty or
  // was put there by an earlier choice.
  const suggested = new Map();
  const offer = (form, name, value) => {
    const field = form.elements[name];
    if (!field || value === undefined) return;
    const now = field.value;
    if (now !== "" && now !== suggested.get(name)) return;
    suggested.set(name, value);
    if (now !== value) {
      field.value = value;
    }
  };
  const suggest = (form) => {
    const { id, exposure } = form.elements.provider.selectedOptions[0].dataset;
    if (!form.elements.id || form.elements.id.readOnly) return;
    offer(form, "id", id);
    offer(form, "kubeconfig_path", form.elements.id.value && `/kubeconfigs/${form.elements.id.value}`);
    offer(form, "exposure_mode", exposure);
  };
  addEventListener("input", (e) => {
    const form = e.target.form;
    if (e.target.name === "id" && form?.matches("[data-provider-form]")) {
      offer(form, "kubeconfig_path", e.target.value && `/kubeconfigs/${e.target.value}`);
    }
  });

  const runtime = (radio) => {
    const form = radio.form;
    const { image, ports, volumes, note, probe } = radio.dataset;
    const hint = (name, text) => {
      if (form.elements[name]) form.elements[name].placeholder = text ?? "";
    };
    hint("image", image || "ghcr.io/acme/app:1.2");
    hint("ports", ports);
    hint("volumes", volumes);
    const says = form.querySelector("[data-runtime-note]");
    if (says) says.textContent = note;
    const own = document.getElementById("h-health_type");
    if (own) own.textContent = probe;
  };

  // What the chosen target has not is said beside the field that it concerns.
  const limits = (radio) => {
    radio.form.querySelectorAll("[data-limit-for]").forEach((note) => {
      note.classList.toggle("on", note.dataset.limitFor.split(" ").includes(radio.value));
    });
  };
  // A browser may bring back a choice that the page was not made for.
  addEventListener("pageshow", () => {
    const chosen = document.querySelector(".targets input[name=target]:checked");
    if (chosen) limits(chosen);
  });

  const read = async (file, field) => {
    if (file.size > 1 << 20) {
      portolan.toast("That file is larger than 1 MiB: it is no kubeconfig.");
      return;
    }
    field.value = await file.text();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  addEventListener("dragover", (e) => {
    const field = e.target.closest?.("[data-drop]");
    if (!field) return;
    e.preventDefault();
    field.classList.add("dragging");
  });
  addEventListener("dragleave", (e) => e.target.closest?.("[data-drop]")?.classList.remove("dragging"));
  addEventListener("drop", (e) => {
    const field = e.target.closest?.("[data-drop]");
    if (!field || !e.dataTransfer.files[0]) return;
    e.preventDefault();
    field.classList.remove("dragging");
    read(e.dataTransfer.files[0], field);
  });
  addEventListener("click", (e) => {
    const button = e.target.closest?.("[data-fill-value]");
    if (button) document.getElementById(button.dataset.fill).value = button.dataset.fillValue;
  });

  // problems leads from the error above a long form to each field concerned.
  const problems = () => {
    const list = document.createElement("ul");
    for (const wrong of document.querySelectorAll("[data-field-name]:has(.field-error)")) {
      const label = wrong.querySelector("label, legend")?.textContent.replace("*", "").trim();
      const field = wrong.querySelector("input:not([type=hidden]), textarea, select");
      if (!label || !field) continue;
      const link = document.createElement("a");
      link.href = `#${field.id}`;
      link.textContent = label;
      link.addEventListener("click", (e) => {
        e.preventDefault();
        for (let d = field.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
        field.focus();
      });
      const item = document.createElement("li");
      item.append(link);
      list.append(item);
    }
    return list.children.length && document.querySelector(".form") ? [list] : [];
  };

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("form[data-confirm]").forEach(arm);
    const error = document.getElementById("form-error");
    if (error) {
      error.querySelector("div").append(...problems());
      error.focus();
    }
    document.querySelectorAll("form[data-provider-form]").forEach((form) => {
      // What the server suggested may be replaced by the next suggestion.
      const { id, exposure } = form.elements.provider.selectedOptions[0]?.dataset ?? {};
      if (form.elements.id?.value === id) suggested.set("id", id);
      suggested.set("kubeconfig_path", `/kubeconfigs/${form.elements.id?.value}`);
      if (form.elements.exposure_mode?.value === exposure) suggested.set("exposure_mode", exposure);
    });
  });
})();

// What stands behind the # of an invitation was never sent; nor does it stay in
// the address. The page that answers its form, which may ask for another
// password, has it again, and no other page does.
(() => {
  const KEY = "invitation";
  const stored = (value) => {
    try {
      const before = sessionStorage.getItem(KEY);
      if (value) sessionStorage.setItem(KEY, value);
      else sessionStorage.removeItem(KEY);
      return before;
    } catch {
      return null; // it has to be typed
    }
  };
  const take = () => {
    const kept = stored("");
    const field = document.querySelector("[data-from-fragment]");
    if (!field) return;
    if (location.hash.length > 1) {
      field.value = location.hash.slice(1);
      history.replaceState(null, "", location.pathname);
      document.querySelector("input[type=password]")?.focus();
    } else if (kept) {
      field.value = kept;
    }
  };
  addEventListener("DOMContentLoaded", take);
  addEventListener("hashchange", take); // the link is opened where the page is already
  addEventListener("submit", (e) => {
    const field = e.target.querySelector("[data-from-fragment]");
    if (field && !e.defaultPrevented) stored(field.value);
  });
})();

// What htmx sends keeps its button from being pressed twice, too. A button that is disabled loses the focus: who
// pressed it by keyboard gets it back.
(() => {
  const left = new WeakSet();
  const hold = (on) => (e) => {
    const button = e.detail?.ctx?.sourceElement;
    if (button?.tagName !== "BUTTON") return;
    if (on && document.activeElement === button) left.add(button);
    button.disabled = on;
    if (!on && left.delete(button) && document.activeElement === document.body) button.focus({ preventScroll: true });
  };
  document.addEventListener("htmx:before:request", hold(true));
  document.addEventListener("htmx:finally:request", hold(false));
})();

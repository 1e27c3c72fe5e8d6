// Says how the live stream of a page is doing. hx-sse opens it again by itself;
// what it cannot know is that the right to read is gone.
(() => {
  const words = {
    live: "live",
    reconnecting: "Connection lost. Trying again; what you see may be old.",
    refused: "You can no longer follow this page: reload it.",
    done: "",
  };
  const show = (el, state, why) => {
    if (el?.dataset?.live === undefined) return;
    el.dataset.live = state;
    let word = el.querySelector("[data-live-word]");
    if (!word) {
      word = document.createElement("span");
      word.dataset.liveWord = "";
      el.replaceChildren(word);
    }
    word.textContent = why || words[state];
  };
  const on = (name, then) => document.addEventListener(name, (e) => then(e.target, e.detail ?? {}, e));

  const lines = new WeakMap(); // by element, of the streams that are open
  on("htmx:sse:after:connection", (el, { connection }) => {
    show(el, "live");
    if (!lines.has(el)) {
      lines.set(el, portolan.watch({
        cut: () => {
          show(el, "reconnecting");
          connection.reader?.cancel();
        },
        again: () => connection.delayCanceller?.(),
      }));
    }
    lines.get(el).heard = Date.now();
  });
  on("htmx:sse:after:message", (el) => {
    if (lines.has(el)) lines.get(el).heard = Date.now();
  });
  on("htmx:sse:error", (el, detail) => {
    const refused = [401, 403, 404].includes(detail.status);
    show(el, refused ? "refused" : "reconnecting");
  });
  on("htmx:sse:before:connection", (el, detail) => {
    if (el?.dataset?.live === "refused") detail.connection.cancelled = true;
    else if (detail.connection.attempt > 1) show(el, "reconnecting");
  });
  // A stream ends for good with one word when all is told, and with a sentence
  // when the rest is withheld.
  const reasons = new WeakMap();
  on("done", (el, { data }) => reasons.set(el, data));
  on("htmx:sse:close", (el, detail) => {
    portolan.forget(lines.get(el));
    lines.delete(el);
    const why = reasons.get(el) ?? "";
    if (detail.reason !== "message") {
      if (el?.isConnected && el.dataset.live !== "refused") show(el, "reconnecting");
    } else if (why.endsWith(".")) {
      show(el, "refused", `${why} What you see is no longer kept up to date: reload the page.`);
    } else {
      show(el, "done");
    }
  });
  // The first request was answered with something else than a stream: the
  // answer must not take the place of the words.
  on("htmx:before:swap", (el, detail, e) => {
    if (el?.dataset?.live === undefined || detail.ctx?.response?.raw?.ok !== false) return;
    e.preventDefault();
    const answer = new DOMParser().parseFromString(detail.ctx.text ?? "", "text/html");
    show(el, "refused", answer.querySelector("[data-error]")?.textContent.trim());
  });
})();

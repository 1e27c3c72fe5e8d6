// The log pane. It reads its stream by itself, so that it knows why it was
// refused and reads no faster than it can keep. Lines stand in chunks. A chunk
// is text at first, as tall as its lines will be, and becomes elements when it
// comes into sight or when there is time: a flood costs little more than its
// bytes.
(() => {
  const KEEP = 50000; // lines on the page
  const CHUNK = 200; // lines that are laid out, and dropped, together
  const SHOWN = 120; // lines at the end that are elements at once
  const TURN = 8; // milliseconds of reading at a time
  const HEIGHT = 18; // of a line, in pixels, as the style sheet has it
  const READ = 4000; // milliseconds that a notice stays at least
  const AWAY = 5000; // milliseconds for which a page that nobody looks at still reads

  const number = new Intl.NumberFormat("en-GB");
  const lines = (n) => (n === 1 ? "1 line" : `${number.format(n)} lines`);
  const setting = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(name);
      localStorage.setItem(name, value);
    } catch { /* kept for this page only */ }
    return null;
  };

  class Pane {
    constructor(root) {
      const part = (name) => root.querySelector(`[data-log-${name}]`);
      this.root = root;
      this.box = part("lines");
      this.stateText = part("state");
      this.notice = part("notice");
      this.more = part("new");
      this.moreCount = part("new-count");
      this.choice = part("choice");
      this.find = new Find(this, part("find"), part("found"));
      this.address = root.dataset.logs;
      this.seen = new IntersectionObserver((entries) => {
        for (const e of entries) if (e.isIntersecting) this.unfold(e.target.chunk);
        if (this.follow) this.toEnd();
      }, { root: this.box, rootMargin: "800px 0px" });
      this.resized = new ResizeObserver(() => {
        if (this.follow) this.toEnd();
        if (!this.shown && this.box.clientHeight) {
          this.shown = true;
          this.start();
        }
      });
      this.resized.observe(this.box);
      this.clear();
      this.controls(part);
    }

    // attend lets go of the stream while nobody looks: a browser has only a few
    // connections for all the tabs that show one site. It goes on after the last
    // line that came.
    attend() {
      clearTimeout(this.away);
      if (document.hidden) {
        this.away = setTimeout(() => {
          if (!this.shown || this.over) return;
          this.stop();
          this.state("paused", "stopped");
        }, AWAY);
      } else if (this.shown && !this.abort) {
        this.start();
      }
    }

    clear() {
      this.box.replaceChildren();
      this.pending = []; // batches of HTML that are not on the page yet
      this.pendingLines = 0;
      this.chunks = []; // { el, html, n, texts }; html is null once it is elements
      this.folded = 0;
      this.count = 0; // lines on the page
      this.dropped = 0;
      this.missed = 0; // lines that came while the reader was scrolled up
      this.pods = new Map();
      this.box.classList.add("one-pod");
      this.lastID = "";
      this.follow = true;
      this.top = 0;
      this.more.hidden = true;
    }

    controls(part) {
      const toggle = (button, name, cls, inverse) => {
        const set = (on) => {
          button.setAttribute("aria-pressed", String(on));
          this.box.classList.toggle(cls, on !== inverse);
          if (this.follow) this.toEnd();
        };
        set(setting(name) !== "off");
        button.addEventListener("click", () => {
          const on = button.getAttribute("aria-pressed") !== "true";
          setting(name, on ? "on" : "off");
          set(on);
        });
      };
      toggle(part("wrap"), "log-wrap", "wrap", false);
      toggle(part("stamps"), "log-stamps", "no-stamps", true);
      part("copy").addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(this.text());
          portolan.toast(`${lines(this.count)} copied.`);
        } catch {
          portolan.toast("Could not copy: download it instead.");
        }
      });
      part("download").addEventListener("click", () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([this.text()], { type: "text/plain" }));
        link.download = `${this.root.dataset.name}.log`;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      });
      this.more.addEventListener("click", () => {
        this.follow = true;
        this.missed = 0;
        this.more.hidden = true;
        this.schedule();
        this.toEnd();
      });
      this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
      this.choice.addEventListener("change", () => this.choose());
      addEventListener("pagehide", () => this.stop());
      addEventListener("pageshow", (e) => { if (e.persisted && this.shown) this.start(); });
      document.addEventListener("visibilitychange", () => this.attend());
    }

    // choose restarts the stream with the chosen pod, container and tail.
    choose() {
      const query = new URLSearchParams();
      for (const [name, value] of new FormData(this.choice)) if (value) query.append(name, value);
      this.address = `${this.address.split("?")[0]}?${query}`;
      if (location.pathname === new URL(this.choice.action).pathname) history.replaceState(history.state, "", `?${query}`);
      this.stop();
      this.clear();
      this.say("");
      this.start();
    }

    state(word, tone) {
      this.stateText.textContent = word;
      this.stateText.className = `log-state ${tone}`;
    }

    // reached says whether lines can come: a connection to us alone brings none.
    reached(yes) {
      if (yes) this.state("live", "ok");
      else this.state("cluster not reached", "warning");
    }

    say(text) {
      clearTimeout(this.fading);
      this.fading = 0;
      this.said = Date.now();
      this.notice.textContent = text;
      this.notice.hidden = !text;
    }

    // fade takes a notice away when there are lines again, once it could be read.
    fade() {
      if (this.notice.hidden || this.fading) return;
      this.fading = setTimeout(() => this.say(""), Math.max(0, this.said + READ - Date.now()));
    }

    // podsNow offers the pods that there are now. The choice stays what it was.
    podsNow(names) {
      const select = this.choice.elements.pod;
      const chosen = select.value;
      const [all] = select.options;
      all.textContent = names.length === 1 ? "1 pod" : `all pods (${names.length})`;
      if (chosen && !names.includes(chosen)) names.push(chosen);
      select.replaceChildren(all, ...names.map((name) => new Option(name, name, false, name === chosen)));
    }

    stop() {
      this.abort?.abort();
      this.abort = null;
      portolan.forget(this.line);
    }

    // end says why nothing more comes, beside what was said of the log before.
    end(tone, why) {
      this.over = true;
      portolan.forget(this.line);
      this.state("ended", tone);
      const before = this.notice.hidden ? "" : this.notice.textContent;
      this.say(before && before !== why ? `${before} ${why}` : why);
    }

    async start() {
      this.stop();
      const abort = (this.abort = new AbortController());
      const line = (this.line = portolan.watch({ cut: () => {}, again: () => {} }));
      const heard = () => (line.heard = Date.now());
      let wait = 500;
      let failures = 0;
      this.over = false; // nothing more is to come
      this.state("connecting", "working");
      while (this.abort === abort) {
        const attempt = new AbortController();
        line.cut = () => attempt.abort();
        heard();
        try {
          const headers = { Accept: "text/event-stream" };
          if (this.lastID) headers["Last-Event-ID"] = this.lastID;
          const answer = await fetch(this.address, { headers, signal: AbortSignal.any([abort.signal, attempt.signal]), cache: "no-store" });
          if (!answer.ok || !answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
            const why = await reason(answer);
            if (answer.status < 500 && answer.status !== 429 && answer.status !== 408) {
              this.end("failed", why);
              return;
            }
            throw new Error(why);
          }
          this.say("");
          this.reached(true);
          failures = 0;
          for await (const message of messages(answer.body, heard)) {
            if (this.abort !== abort) return;
            if (message.retry) wait = message.retry;
            if (message.id !== undefined) this.lastID = message.id;
            if (message.event === "done") {
              this.end("stopped", message.data);
              return;
            }
            if (message.event === "notice") this.say(message.data);
            else if (message.event === "cluster") this.reached(message.data !== "away");
            else if (message.event === "pods") this.podsNow(message.data.split(" "));
            else if (!message.event && message.data) this.push(message.data);
          }
        } catch (e) {
          if (this.abort !== abort) return;
          if (failures > 0 && !attempt.signal.aborted && e instanceof Error && e.message && !(e instanceof TypeError)) this.say(e.message);
        }
        if (this.abort !== abort) return;
        this.state("reconnecting", "warning");
        const pause = Math.min(wait * 2 ** failures, 10000) * (0.8 + 0.4 * Math.random());
        failures++;
        await new Promise((then) => {
          line.again = then;
          setTimeout(then, pause);
        });
      }
    }

    push(html) {
      let n = 0;
      for (let i = html.indexOf("<div data-"); i >= 0; i = html.indexOf("<div data-", i + 10)) n++;
      if (!n) return;
      this.fade();
      this.pending.push({ html, n });
      this.pendingLines += n;
      while (this.pendingLines > KEEP && this.pending.length > 1) {
        const { n: gone } = this.pending.shift();
        this.pendingLines -= gone;
        this.dropped += gone;
      }
      if (!this.follow) this.offer(n);
      this.schedule();
    }

    offer(n) {
      this.missed += n;
      this.moreCount.textContent = `${number.format(this.missed)} new ${this.missed === 1 ? "line" : "lines"}`;
      this.more.hidden = false;
    }

    schedule() {
      if (this.frame || !this.pending.length) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.flush();
      });
    }

    // flush puts what waits on the page. While the reader is scrolled up nothing
    // is dropped, so that what is read stays where it is.
    flush() {
      const fresh = document.createDocumentFragment();
      while (this.pending.length) {
        const { html, n } = this.pending[0];
        if (!this.follow && this.count + n > KEEP) break;
        this.pending.shift();
        this.pendingLines -= n;
        this.count += n;
        const last = this.chunks.at(-1);
        if (last && last.n + n <= CHUNK) this.extend(last, html, n);
        else this.add(fresh, html, n);
      }
      this.box.append(fresh);
      if (this.follow) this.trim();
      for (let i = this.chunks.length - 1, shown = 0; i >= 0 && shown < SHOWN; i--) {
        shown += this.chunks[i].n;
        this.unfold(this.chunks[i]);
      }
      if (this.follow) this.toEnd();
      this.find.later();
      this.unfoldLater();
    }

    add(fresh, html, n) {
      const el = document.createElement("div");
      el.className = "log-chunk";
      el.style.height = `${n * HEIGHT}px`;
      const chunk = (el.chunk = { el, html, n, texts: null });
      const last = this.chunks.at(-1);
      if (last) this.resized.unobserve(last.el);
      this.resized.observe(el);
      this.seen.observe(el);
      this.chunks.push(chunk);
      this.folded++;
      fresh.append(el);
    }

    extend(chunk, html, n) {
      chunk.n += n;
      chunk.texts = null;
      if (chunk.html !== null) {
        chunk.html += html;
        chunk.el.style.height = `${chunk.n * HEIGHT}px`;
      } else {
        chunk.el.append(...this.elements(html));
      }
    }

    // unfold turns the text of a chunk into its lines.
    unfold(chunk) {
      if (chunk.html === null) return;
      chunk.el.append(...this.elements(chunk.html));
      chunk.html = null;
      chunk.el.style.height = "";
      chunk.el.style.containIntrinsicBlockSize = `auto ${chunk.n * HEIGHT}px`;
      this.seen.unobserve(chunk.el);
      this.folded--;
    }

    // unfoldLater does so for the rest, newest first, when nothing else is to do.
    unfoldLater() {
      if (!this.folded || this.idle) return;
      const later = window.requestIdleCallback ?? ((f) => setTimeout(() => f({ timeRemaining: () => 8 }), 100));
      this.idle = later((deadline) => {
        this.idle = 0;
        for (let i = this.chunks.length - 1; i >= 0 && this.folded; i--) {
          if (deadline.timeRemaining() < 3) break;
          this.unfold(this.chunks[i]);
        }
        if (this.follow) this.toEnd();
        this.unfoldLater();
      });
    }

    elements(html) {
      const template = document.createElement("template");
      template.innerHTML = html.replace(
        /<div data-line(?: data-t="[^"T]*T([^"Z]*)[^"]*")?(?: data-pod="([^"]*)")?>/g,
        (tag, time, pod) => tag +
          (time ? `<b class="t">${(time + (time.includes(".") ? "000" : ".000")).slice(0, 12)}</b>` : "") +
          (pod ? `<b class="p${this.pod(pod)}">${pod}</b>` : ""),
      );
      const lines = [...template.content.children];
      if (html.includes("\x1b")) {
        for (const line of lines) if (line.lastChild?.data?.includes("\x1b")) portolan.colour(line);
      }
      return lines;
    }

    pod(name) {
      let i = this.pods.get(name);
      if (i === undefined) {
        // By its name, so that a pod keeps its colour when the page is opened again; the next one if that is taken.
        i = [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 7) % 8;
        const taken = new Set(this.pods.values());
        while (taken.has(i) && taken.size < 8) i = (i + 1) % 8;
        this.pods.set(name, i);
        this.box.classList.toggle("one-pod", this.pods.size < 2);
      }
      return i;
    }

    trim() {
      while (this.count > KEEP && this.chunks.length > 1) {
        const { el, n, html } = this.chunks.shift();
        if (html !== null) this.folded--;
        this.seen.unobserve(el);
        el.remove();
        this.count -= n;
        this.dropped += n;
      }
      const says = this.dropped ? `${lines(this.dropped)} before these are not kept on the page.` : "";
      if (this.box.title !== says) this.box.title = says;
    }

    toEnd() {
      this.box.scrollTop = this.box.scrollHeight;
      this.top = this.box.scrollTop;
    }

    // scrolled tells the reader's scrolling from our own: ours never goes up.
    scrolled() {
      const { scrollTop, scrollHeight, clientHeight } = this.box;
      if (scrollTop + clientHeight >= scrollHeight - 24) {
        if (!this.follow) {
          this.follow = true;
          this.missed = 0;
          this.more.hidden = true;
          this.schedule();
        }
      } else if (scrollTop < this.top - 2) {
        this.follow = false;
      }
      this.top = scrollTop;
    }

    text() {
      const stamps = !this.box.classList.contains("no-stamps");
      const out = [];
      for (const chunk of this.chunks) {
        this.unfold(chunk);
        for (const line of chunk.el.children) {
          const { t, pod } = line.dataset;
          out.push((stamps && t ? `${t} ` : "") + (pod && this.pods.size > 1 ? `${pod} ` : "") + said(line));
        }
      }
      return `${out.join("\n")}\n`;
    }
  }

  // said is the text of a line without the time and pod before it.
  const said = (line) => {
    let text = "";
    for (const node of line.childNodes) if (node.nodeName !== "B") text += node.textContent;
    return text;
  };

  // texts are the lines of a chunk as they are searched, folded or not.
  const entities = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&#34;": '"', "&#39;": "'", "&quot;": '"' };
  const texts = (chunk) => {
    if (chunk.texts) return chunk.texts;
    if (chunk.html === null) {
      chunk.texts = Array.from(chunk.el.children, (line) => said(line).toLowerCase());
    } else {
      chunk.texts = chunk.html.split("</div>").slice(0, -1).map((line) =>
        line.slice(line.indexOf(">") + 1).replace(/\x1b\[[\d;:]*m|&[#\w]+;/g, (m) => entities[m] ?? "").toLowerCase());
    }
    return chunk.texts;
  };

  // reason reads why a stream was refused from whatever was sent instead.
  const reason = async (answer) => {
    const fallback = `The log could not be read (${answer.status}).`;
    try {
      const body = await answer.text();
      if (!answer.headers.get("Content-Type")?.includes("html")) return body.trim().slice(0, 500) || fallback;
      const doc = new DOMParser().parseFromString(body, "text/html");
      return doc.querySelector("[data-error]")?.textContent.trim() || fallback;
    } catch {
      return fallback;
    }
  };

  // messages reads an event stream (HTML standard, section 9.2). It calls heard
  // whenever something comes, be it a comment.
  async function* messages(body, heard) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = [];
    let message = {};
    let since = performance.now();
    try {
      for (;;) {
        // What has arrived already is read without a pause: the page needs one.
        if (performance.now() - since > TURN) {
          await new Promise((then) => setTimeout(then));
          since = performance.now();
        }
        const { done, value } = await reader.read();
        if (done) return;
        heard();
        const all = (rest + value).split("\n");
        rest = all.pop();
        for (let line of all) {
          if (line.endsWith("\r")) line = line.slice(0, -1);
          if (line === "") {
            if (data.length || message.event || message.id !== undefined || message.retry) yield { ...message, data: data.join("\n") };
            data = [];
            message = {};
            continue;
          }
          const colon = line.indexOf(":");
          if (colon === 0) continue;
          const name = colon < 0 ? line : line.slice(0, colon);
          let content = colon < 0 ? "" : line.slice(colon + 1);
          if (content[0] === " ") content = content.slice(1);
          if (name === "data") data.push(content);
          else if (name === "event") message.event = content;
          else if (name === "id") message.id = content;
          else if (name === "retry") message.retry = Number(content) || 0;
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  // Find marks what is looked for without touching the lines themselves.
  class Find {
    constructor(pane, input, found) {
      this.pane = pane;
      this.input = input;
      this.found = found;
      this.at = -1;
      this.hits = [];
      input.addEventListener("input", () => {
        this.at = -1;
        this.run();
        if (this.hits.length) this.go(this.hits.length - 1);
      });
      input.addEventListener("keydown", (e) => {
        if (e.key === "Enter" && this.hits.length) {
          e.preventDefault();
          const n = this.hits.length;
          this.go((this.at + (e.shiftKey ? n - 1 : 1)) % n);
        } else if (e.key === "Escape") {
          input.value = "";
          this.run();
        }
      });
    }

    // later looks again after new lines, not more often than the eye needs.
    later() {
      if (!this.input.value || this.timer) return;
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.run();
      }, 700);
    }

    run() {
      const needle = this.input.value.toLowerCase();
      this.hits = [];
      if (needle) {
        for (const chunk of this.pane.chunks) {
          texts(chunk).forEach((text, index) => {
            for (let i = text.indexOf(needle); i >= 0; i = text.indexOf(needle, i + needle.length)) {
              this.hits.push({ chunk, index, from: i, to: i + needle.length });
            }
          });
        }
      }
      if (this.at >= this.hits.length) this.at = this.hits.length - 1;
      this.show();
    }

    show() {
      const n = this.hits.length;
      if (!this.input.value) this.found.textContent = "";
      else if (!n) this.found.textContent = "none";
      else this.found.textContent = `${number.format(this.at + 1)} of ${number.format(n)}`;
      if (!CSS.highlights) return;
      // Many thousand marks would slow down painting; the nearest do.
      const near = this.hits.slice(Math.max(0, this.at - 500), this.at + 500);
      CSS.highlights.set("found", new Highlight(...near.map(range).filter(Boolean)));
      const here = this.hits[this.at] && range(this.hits[this.at]);
      if (here) CSS.highlights.set("here", new Highlight(here));
      else CSS.highlights.delete("here");
    }

    go(i) {
      this.at = i;
      const { chunk, index } = this.hits[i];
      const { box } = this.pane;
      this.pane.unfold(chunk);
      this.show();
      const line = chunk.el.children[index].getBoundingClientRect();
      const pane = box.getBoundingClientRect();
      if (line.top < pane.top || line.bottom > pane.bottom) {
        box.scrollTop += line.top - pane.top - box.clientHeight / 2;
        this.pane.scrolled();
      }
    }
  }

  // range finds the text nodes of a hit: a coloured line has several.
  const range = ({ chunk, index, from, to }) => {
    const line = chunk.html === null && chunk.el.children[index];
    if (!line) return null;
    const r = document.createRange();
    let passed = 0;
    let begun = false;
    const walk = document.createTreeWalker(line, NodeFilter.SHOW_TEXT, (node) =>
      node.parentNode.nodeName === "B" ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const end = passed + node.length;
      if (!begun && from < end) {
        r.setStart(node, from - passed);
        begun = true;
      }
      if (begun && to <= end) {
        r.setEnd(node, to - passed);
        return r;
      }
      passed = end;
    }
    return null;
  };

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-logs]").forEach((root) => new Pane(root));
  });
})();

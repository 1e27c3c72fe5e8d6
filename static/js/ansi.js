// Colours a line of a log. The server lets through only the sequences that set
// colours; whatever else might stand there is dropped here too.
portolan.colour = (() => {
  const fresh = () => ({ fg: null, bg: null, bold: false, dim: false, italic: false, under: false, strike: false, reverse: false });

  // The 6×6×6 cube and the greys of the 256 colours.
  const indexed = (n) => {
    if (n < 16) return n;
    if (n > 231) {
      const v = 8 + (n - 232) * 10;
      return `rgb(${v} ${v} ${v})`;
    }
    const level = (i) => (i ? 55 + i * 40 : 0);
    n -= 16;
    return `rgb(${level(Math.floor(n / 36))} ${level(Math.floor(n / 6) % 6)} ${level(n % 6)})`;
  };

  const apply = (now, text) => {
    const codes = (text || "0").replaceAll(":", ";").split(";").map((c) => Number(c) || 0);
    for (let i = 0; i < codes.length; i++) {
      const c = codes[i];
      if (c === 0) Object.assign(now, fresh());
      else if (c === 1) now.bold = true;
      else if (c === 2) now.dim = true;
      else if (c === 3) now.italic = true;
      else if (c === 4) now.under = true;
      else if (c === 7) now.reverse = true;
      else if (c === 9) now.strike = true;
      else if (c === 22) now.bold = now.dim = false;
      else if (c === 23) now.italic = false;
      else if (c === 24) now.under = false;
      else if (c === 27) now.reverse = false;
      else if (c === 29) now.strike = false;
      else if (c >= 30 && c <= 37) now.fg = c - 30;
      else if (c === 39) now.fg = null;
      else if (c >= 40 && c <= 47) now.bg = c - 40;
      else if (c === 49) now.bg = null;
      else if (c >= 90 && c <= 97) now.fg = c - 82;
      else if (c >= 100 && c <= 107) now.bg = c - 100;
      else if (c === 38 || c === 48) {
        let colour = null;
        if (codes[i + 1] === 5) {
          colour = indexed(Math.min(codes[i + 2] ?? 0, 255));
          i += 2;
        } else if (codes[i + 1] === 2) {
          colour = `rgb(${codes.slice(i + 2, i + 5).map((v) => Math.min(v, 255)).join(" ")})`;
          i += 4;
        }
        now[c === 38 ? "fg" : "bg"] = colour;
      }
    }
  };

  const dress = (text, now) => {
    const span = document.createElement("span");
    span.textContent = text;
    const names = [];
    if (typeof now.fg === "number") names.push(`a${now.fg}`);
    else if (now.fg) span.style.color = now.fg;
    if (typeof now.bg === "number") names.push(`b${now.bg % 8}`);
    else if (now.bg) span.style.backgroundColor = now.bg;
    for (const [on, name] of [[now.bold, "ab"], [now.dim, "ad"], [now.italic, "ai"], [now.under, "au"], [now.strike, "as"], [now.reverse, "ar"]]) {
      if (on) names.push(name);
    }
    if (names.length) span.className = names.join(" ");
    return span;
  };

  // colour replaces the text of a line by its coloured pieces.
  return (line) => {
    const node = line.lastChild;
    if (node?.nodeType !== Node.TEXT_NODE) return;
    const parts = node.data.split(/\x1b\[([\d;:]*)m/);
    const now = fresh();
    const out = [];
    parts.forEach((part, i) => {
      if (i % 2) return apply(now, part);
      const text = part.replaceAll("\x1b", "");
      if (text) out.push(Object.values(now).some((v) => v !== null && v !== false) ? dress(text, now) : text);
    });
    node.replaceWith(...out);
  };
})();

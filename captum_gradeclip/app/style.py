"""How the page looks, and what it does in the browser alone."""

CSS = """
.gradeclip .maps{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(165px,45%),1fr));gap:12px}
.gradeclip .maps.one{grid-template-columns:minmax(0,340px)}
.gradeclip figure{margin:0;min-width:0}
.gradeclip .stack{width:100%;background-image:var(--picture);background-size:100% 100%;border-radius:4px;overflow:hidden}
.gradeclip .stack img{display:block;width:100%;height:100%;opacity:var(--map-opacity,1)}
.gradeclip figcaption{font-size:13px;line-height:1.45;margin-top:4px;overflow-wrap:anywhere}
.gradeclip h3{margin:14px 0 6px;font-size:16px}
.gradeclip h3 small{font-weight:normal;opacity:.7}
.gradeclip .bar{font-size:13px;margin-top:6px;display:flex;gap:6px;align-items:center;flex-wrap:wrap}
.gradeclip .bar img{display:inline-block;height:10px;width:150px}
.gradeclip .word{color:#000;border:1px solid #aaa;border-radius:5px;padding:3px 7px;margin:2px 1px}
.gradeclip .word{cursor:pointer;font-size:15px}
.gradeclip .word:focus-visible{outline:3px solid #1f6feb}
.gradeclip .words p{margin:6px 0;overflow-wrap:anywhere}
.gradeclip .note{font-size:13px;margin:8px 0;padding:6px 10px;border-left:4px solid #b8860b}
.gradeclip .refusal{margin:8px 0;padding:8px 12px;border-left:4px solid #b2182b;overflow-wrap:anywhere}
.gradeclip.preview img{max-width:100%;max-height:220px;border-radius:4px}
.gradeclip.preview div{font-size:13px;overflow-wrap:anywhere}
.gradeclip.files a{display:inline-block;margin:4px 14px 4px 0;text-decoration:underline}
.gradeclip .captions{display:flex;flex-wrap:wrap;gap:16px}
.gradeclip .question{font-size:18px;margin:8px 0}
.gradeclip .asked{max-width:340px}
.gradeclip .asked img{width:100%;border-radius:4px}
"""
"""The style sheet of all parts of the page that :mod:`captum_gradeclip.app.views` writes."""

CLICK_WORD = """
element.addEventListener('click', (event) => {
  const word = event.target.closest('button.word');
  if (word) trigger('click', {text: Number(word.dataset.text), word: Number(word.dataset.word)});
});
"""
"""Tells the server which word was clicked; a word is a button, so that a keyboard reaches it as well."""

SET_OPACITY = "(value) => { document.documentElement.style.setProperty('--map-opacity', value); }"
"""Sets the opacity of all maps, without asking the server."""

SHOW_REGION = "() => { document.getElementById('region')?.scrollIntoView({behavior: 'smooth', block: 'nearest'}); }"
"""Brings the region of a word into sight, which stands below the words."""

READ_ADDRESS = "() => [window.location.search]"
"""Gives the server what stands behind the question mark of the address."""

WRITE_ADDRESS = """(link) => {
  if (link) window.history.replaceState(null, '', '?' + link);
  return link ? window.location.origin + window.location.pathname + '?' + link : '';
}"""
"""Writes a link into the address, and gives it back as a whole."""

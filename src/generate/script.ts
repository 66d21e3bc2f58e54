/**
 * The script of the page: search, copy buttons, the address and time in the samples, and the folded menu on a phone. The
 * page works without it. The server computes the script's hash for its Content-Security-Policy.
 */
export const script = `
const menu = document.getElementById("menu");
if (matchMedia("(max-width: 800px)").matches) menu.open = false;
menu.addEventListener("click", (event) => {
  if (event.target.closest("a") && matchMedia("(max-width: 800px)").matches) menu.open = false;
});

const served = location.protocol.startsWith("http") ? location.origin : undefined;
for (const sample of document.querySelectorAll("pre")) {
  const here = served ? sample.textContent.replaceAll(document.body.dataset.url, served) : sample.textContent;
  if (!sample.classList.contains("run")) {
    sample.textContent = here;
    continue;
  }
  // The audit log accepts recent times only.
  sample.textContent = here.replaceAll(/\\d{4}-\\d\\d-\\d\\dT[\\d:]+Z/g, new Date().toISOString());
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(sample.firstChild.textContent, button));
  sample.append(button);
}

async function copy(text, button) {
  // Browsers offer the clipboard on secure origins only.
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else {
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.firstChild);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

const search = document.getElementById("search");
const links = [...document.querySelectorAll("nav a")];
const texts = new Map([...document.querySelectorAll("section, #start, #errors")].map((part) => [part.id, part.textContent.toLowerCase()]));
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(" ").filter((word) => word !== "");
  const isFound = (text) => words.every((word) => text.includes(word));
  for (const link of links) {
    const id = link.hash.slice(1);
    const found = isFound(link.textContent.toLowerCase() + (texts.get(id) ?? ""));
    link.hidden = !found;
    const section = document.getElementById(id);
    if (section.tagName === "SECTION") section.hidden = !found;
  }
  for (const heading of document.querySelectorAll("nav h2")) {
    let next = heading.nextElementSibling;
    while (next && next.tagName === "A" && next.hidden) next = next.nextElementSibling;
    heading.hidden = !next || next.tagName !== "A";
  }
});
search.addEventListener("keydown", (event) => {
  const first = links.find((link) => !link.hidden);
  if (event.key === "Enter" && first) first.click();
});
`;

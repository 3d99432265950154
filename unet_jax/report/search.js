(() => {
  const get = (id) => document.getElementById(id);
  const { files, onPage, cases } = JSON.parse(get("everyone").textContent);
  const box = document.querySelector("input[name=q]");
  const MOST = 200;

  function item([name, dice], place) {
    const [line, link] = [document.createElement("li"), document.createElement("a")];
    const file = files[Math.floor(place / onPage)];
    link.href = `${file}#case=${encodeURIComponent(name)}`;
    link.textContent = name;
    line.append(link, ` Dice ${dice?.toFixed(3) ?? "undefined"}`);
    line.value = place + 1;
    return line;
  }

  function find() {
    const wanted = box.value.trim().toLowerCase();
    const fits = ([name, , patient]) => `${name} ${patient ?? ""}`.toLowerCase().includes(wanted);
    const found = cases.map((one, place) => [one, place]).filter(([one]) => wanted && fits(one));
    const some = found.length > MOST ? `; the ${MOST} worst are listed` : "";
    get("number").textContent = wanted
      ? `${found.length.toLocaleString("en")} of ${cases.length.toLocaleString("en")} cases${some}.`
      : `There are ${cases.length.toLocaleString("en")} cases, numbered from the worst.`;
    get("found").replaceChildren(...found.slice(0, MOST).map((one) => item(...one)));
  }
  box.value = new URLSearchParams(location.search).get("q") ?? "";
  box.addEventListener("input", find);
  find();
})();

// Search on the page search.html, from disk as from a server. All words must occur; what stands in a title counts more.
(function () {
  var results = document.getElementById("mkdocs-search-results");
  var input = document.getElementById("mkdocs-search-query");
  if (!results || !input) return;

  function count(text, word) {
    return text.toLowerCase().split(word).length - 1;
  }

  function score(entry, words) {
    var total = 0;
    for (var i = 0; i < words.length; i++) {
      var found = 20 * count(entry.title, words[i]) + count(entry.text, words[i]);
      if (!found) return 0;
      total += Math.min(found, 40);
    }
    return total;
  }

  function show() {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var found = searchIndex.docs
      .map(function (entry) { return { entry: entry, score: words.length ? score(entry, words) : 0 }; })
      .filter(function (hit) { return hit.score; })
      .sort(function (a, b) { return b.score - a.score; })
      .slice(0, 50);
    results.replaceChildren();
    found.forEach(function (hit) {
      var article = document.createElement("article");
      var link = document.createElement("a");
      link.href = hit.entry.location;
      link.textContent = hit.entry.title;
      var title = document.createElement("h3");
      title.append(link);
      var at = Math.max(0, hit.entry.text.toLowerCase().indexOf(words[0]) - 80);
      var text = document.createElement("p");
      text.textContent = (at ? "… " : "") + hit.entry.text.slice(at, at + 220) + " …";
      article.append(title, text);
      results.append(article);
    });
    if (!found.length) results.textContent = words.length ? "Nothing found." : "";
  }

  var script = document.createElement("script");
  script.src = base_url + "/search/index.js";
  script.onload = function () {
    input.value = new URLSearchParams(location.search).get("q") || "";
    input.addEventListener("input", show);
    show();
  };
  document.head.append(script);
})();

// The threshold explorer: everything is computed from the counts that the page holds.
"use strict";
(function () {
  const place = document.getElementById("explorer-data");
  if (!place) return;
  const data = JSON.parse(place.textContent);
  const find = (id) => document.getElementById("explorer-" + id);
  const slider = find("threshold"), share = find("prevalence");
  const percent = (value) => (isNaN(value) ? "n/a" : (100 * value).toFixed(1) + " %");

  function rates(part, at) {
    const hits = part.hits[at], alarms = part.alarms[at];
    return { found: hits / part.positives, spared: 1 - alarms / part.negatives, hits: hits, alarms: alarms };
  }

  // Predictive values at another prevalence, by Bayes' rule.
  function predictive(rate, prevalence) {
    const right = rate.found * prevalence, wrong = (1 - rate.spared) * (1 - prevalence);
    const spared = rate.spared * (1 - prevalence), missed = (1 - rate.found) * prevalence;
    return { ppv: right / (right + wrong), npv: spared / (spared + missed) };
  }

  function ends(part, name, at) {
    const low = part[name + "_low"][at], high = part[name + "_high"][at];
    return low === null ? "" : " (" + percent(low) + " to " + percent(high) + ")";
  }

  function inWords(rate, part, prevalence) {
    const sick = Math.round(1000 * prevalence), well = 1000 - sick;
    const found = Math.round(sick * rate.found), alarms = Math.round(well * (1 - rate.spared));
    return "Of 1000 records, " + sick + " have " + data.positive + ": " + found + " are found and " + (sick - found) +
      " missed. Of the other " + well + ", " + alarms + " get a false alarm. So of " + (found + alarms) +
      " alarms " + found + " are right (rates of the " + part.name + " records).";
  }

  function show() {
    const at = Number(slider.value), cut = data.cuts[at];
    const prevalence = Math.min(0.9999, Math.max(0.0001, Number(share.value) / 100 || data.prevalence));
    find("value").textContent = cut.toFixed(4);
    slider.setAttribute("aria-valuetext", "threshold " + cut.toFixed(4));
    data.parts.forEach(function (part, number) {
      const rate = rates(part, at), told = predictive(rate, prevalence);
      const cells = {
        sensitivity: percent(rate.found) + ends(part, "sensitivity", at),
        specificity: percent(rate.spared) + ends(part, "specificity", at),
        ppv: percent(told.ppv), npv: percent(told.npv),
        counts: rate.hits + " of " + part.positives + " found, " + rate.alarms + " of " + part.negatives + " false alarms"
      };
      Object.keys(cells).forEach(function (name) { find(name + "-" + number).textContent = cells[name]; });
      if (number === data.parts.length - 1) find("words").textContent = inWords(rate, part, prevalence);
    });
  }

  slider.addEventListener("input", show);
  share.addEventListener("input", show);
  find("reset").addEventListener("click", function () {
    slider.value = String(data.start);
    share.value = (100 * data.prevalence).toFixed(1);
    show();
  });
  show();
})();

// What is folded away is printed too, but for a table of many pages that stands in a file as well.
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not(.unprinted)").forEach(function (item) { item.open = true; });
});

// Runs a script as it is, with the configuration's thresholds beside its own, and keeps the summary.
import * as script from "./{{.Script}}";
export * from "./{{.Script}}";
export default script.default;

const own = script.options || {};
const more = {{.Thresholds}};
const thresholds = Object.assign({}, own.thresholds);
for (const metric of Object.keys(more)) {
  thresholds[metric] = [].concat(thresholds[metric] || [], more[metric]);
}
export const options = Object.assign({}, own, { thresholds });

export function handleSummary(data) {
  const files = typeof script.handleSummary === "function" ? script.handleSummary(data) : {};
  return Object.assign({}, files, { [`${__ENV.MILLRACE_OUT}/summary.json`]: JSON.stringify(data) });
}

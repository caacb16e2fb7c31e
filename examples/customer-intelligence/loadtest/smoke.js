// A minute's doubt, settled in seconds: does every route answer, and with sense?
//   k6 run -e BASE_URL=http://127.0.0.1:8000 loadtest/smoke.js
import http from "k6/http";
import { check } from "k6";

import { BASE_URL, CUSTOMER, HISTORY, JSON_HEADERS, RFM } from "./lib/requests.js";

export const options = {
  vus: 1,
  iterations: 3,
  thresholds: { checks: ["rate==1.0"], http_req_failed: ["rate==0.0"] },
};

export default function () {
  check(http.get(`${BASE_URL}/readyz`), {
    "models are loaded": (r) => r.status === 200 && r.json("status") === "ready",
  });
  check(http.get(`${BASE_URL}/version`), {
    "three models are served": (r) => Object.keys(r.json("models")).length === 3,
  });
  check(http.post(`${BASE_URL}/predict/churn`, CUSTOMER, JSON_HEADERS), {
    "churn is a probability": (r) => r.json("probability") > 0 && r.json("probability") < 1,
  });
  check(http.post(`${BASE_URL}/predict/clv`, HISTORY, JSON_HEADERS), {
    "value is positive": (r) => r.json("value") > 0,
  });
  check(http.post(`${BASE_URL}/segment`, RFM, JSON_HEADERS), {
    "segment has a name": (r) => r.json("segment").length > 0,
  });
}

// What both scripts send. In a folder of its own, because it is no script to run.
export const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:8000").replace(/\/$/, "");

export const JSON_HEADERS = { headers: { "Content-Type": "application/json" } };

export const CUSTOMER = JSON.stringify({
  gender: "Female",
  SeniorCitizen: 0,
  Partner: "Yes",
  Dependents: "No",
  tenure: 1,
  PhoneService: "No",
  MultipleLines: "No phone service",
  InternetService: "DSL",
  OnlineSecurity: "No",
  OnlineBackup: "Yes",
  DeviceProtection: "No",
  TechSupport: "No",
  StreamingTV: "No",
  StreamingMovies: "No",
  Contract: "Month-to-month",
  PaperlessBilling: "Yes",
  PaymentMethod: "Electronic check",
  MonthlyCharges: 29.85,
  TotalCharges: 29.85,
});

export const HISTORY = JSON.stringify({
  frequency: 2,
  recency: 30.43,
  age: 38.86,
  monetary: 22.35,
  weeks: 39,
});

export const RFM = JSON.stringify({ recency_days: 20, frequency: 4, monetary: 35.5 });

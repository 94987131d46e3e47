// A browser's EventSource, by the package eventsource.
import { EventSource } from "eventsource";
import { order, tell } from "./buyer.mjs";

const source = new EventSource(order.url);
source.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  // An EventSource takes every end for an accident and asks again: the last event must close it.
  if (event.type === "done" || event.type === "error") source.close();
  tell({ event });
};
source.onerror = (error) => {
  source.close();
  tell({ refused: error.message ?? "", status: error.code ?? null });
};

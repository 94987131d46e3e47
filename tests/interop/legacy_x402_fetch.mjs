// The client of x402 version 1 that is still installed in places: fetch wrapped by x402-fetch.
import { createSigner, decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";
import { buy, order, watched } from "./buyer.mjs";

// It pays on its wallet's own chain, in whatever token is asked for, up to one number.
const signer = watched(await createSigner("base-sepolia", order.key));
const most = order.most === null ? undefined : BigInt(order.most);

await buy(
  (fetch) => wrapFetchWithPayment(fetch, signer, most),
  { payment: "X-PAYMENT", receipt: "X-PAYMENT-RESPONSE" },
  decodeXPaymentResponse,
);

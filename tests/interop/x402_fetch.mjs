// The official client of x402 version 2: fetch wrapped by @x402/fetch.
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { buy, order, watched } from "./buyer.mjs";

const signer = watched(privateKeyToAccount(order.key));
const client = new x402Client().register("eip155:*", new ExactEvmScheme(signer));
if (order.allowed.length > 0) {
  client.setSpendControls({
    allowedAssets: order.allowed.map(({ network, asset, most }) => ({
      network,
      asset,
      maxAmountPerPayment: most,
    })),
  });
}

await buy(
  (fetch) => wrapFetchWithPayment(fetch, client),
  { payment: "PAYMENT-SIGNATURE", receipt: "PAYMENT-RESPONSE" },
  decodePaymentResponseHeader,
);

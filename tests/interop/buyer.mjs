// A program that buys: reads its order from standard input, tells what happens as lines of JSON.
import { text } from "node:stream/consumers";

export const order = JSON.parse(await text(process.stdin));

let signatures = 0;

// A signer of viem's that is watched: what a client refuses, it must not have signed.
export function watched(signer) {
  const sign = signer.signTypedData.bind(signer);
  const signTypedData = (data) => {
    signatures += 1;
    return sign(data);
  };
  return { ...signer, signTypedData };
}

// `paying` makes a fetch that pays of one that does not; `headers` are a payment's and a receipt's.
export async function buy(paying, headers, decode) {
  let payment = null;
  const pay = paying((input, init) => {
    const request = new Request(input, init);
    payment = request.headers.get(headers.payment) ?? payment;
    return fetch(request);
  });
  const ask = (more) =>
    pay(order.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...more },
      body: JSON.stringify(order.values),
    });

  let reply;
  try {
    reply = await ask({});
  } catch (error) {
    return tell({ refused: error.message, signatures });
  }
  await hear(reply);
  if (order.again) await hear(await ask({ [headers.payment]: payment }));

  async function hear(reply) {
    const receipt = reply.headers.get(headers.receipt);
    tell({ status: reply.status, receipt: receipt && decode(receipt), signatures });
    if (reply.headers.get("Content-Type").startsWith("application/json")) {
      return tell({ body: await reply.json() });
    }
    let rest = "";
    for await (const chunk of reply.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + chunk).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        if (block.startsWith("data: ")) tell({ event: JSON.parse(block.slice(6)) });
      }
    }
  }
}

export function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// Nobody waits for a program that hangs.
setTimeout(() => process.exit(3), 20_000).unref();

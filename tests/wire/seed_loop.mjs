// The fetch loop printed in seed 3, as it stands there: only the url, the headers and the body of
// the innermost loop are ours. Arguments: the url, and the headers as JSON. Prints each event.
const url = new URL(process.argv[2]);
const headers = JSON.parse(process.argv[3]);

// --- seed 3, from here ---------------------------------------------------------------------------
const response = await fetch(url.toString(), {
  headers
});

const reader = response.body?.getReader();
const decoder = new TextDecoder();

while (reader) {
  const { done, value } = await reader.read();
  if (done) break;

  const chunk = decoder.decode(value);
  const lines = chunk.split('\n\n').filter(line => line.startsWith('data: '));

  for (const line of lines) {
    const event = JSON.parse(line.substring(6));
    process.stdout.write(JSON.stringify(event) + '\n');
  }
}
// --- to here -------------------------------------------------------------------------------------

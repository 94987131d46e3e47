// EventSource doesn't support custom headers, use fetch instead
const response = await fetch(url.toString(), {
  headers: {
    'x-api-key': 'your-api-key',
    'x-user-id': 'user-id-hint'  // Optional, for internal keys
  }
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
    // Handle event...
  }
}

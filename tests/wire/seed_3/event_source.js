const url = new URL('/api/stream/execute-task', window.location.origin);
url.searchParams.set('taskCoords', 'userId123,0:1,2');
url.searchParams.set('instruction', 'Focus on error handling');

const eventSource = new EventSource(url.toString());

eventSource.onmessage = (event) => {
  const data = JSON.parse(event.data);

  switch (data.type) {
    case 'text_delta':
      console.log('Text:', data.text);
      break;
    case 'done':
      console.log('Complete:', data.totalTokens, 'tokens in', data.durationMs, 'ms');
      eventSource.close();
      break;
    case 'error':
      console.error('Error:', data.code, data.message);
      if (!data.recoverable) eventSource.close();
      break;
  }
};

eventSource.onerror = () => {
  console.error('Connection error');
  eventSource.close();
};

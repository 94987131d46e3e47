curl -N "http://localhost:3000/api/stream/execute-task?taskCoords=userId,0:1" \
  -H "x-api-key: your-api-key"

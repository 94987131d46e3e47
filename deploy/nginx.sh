#!/bin/sh
# nginx in a container, with the configuration we ship: of its lines that end in "# yours" these few
# become the container's, and the certificate and the socket file are mounted where they say.
set -eu

name=${PUBLIC_URL#https://}
name=${name%/}
case $name in
    "$PUBLIC_URL" | "" | *[!A-Za-z0-9.-]*)
        echo "PUBLIC_URL: $PUBLIC_URL is not https:// and a name; nothing here listens on a port but 443" >&2
        exit 1
        ;;
esac

sed -e '/# yours$/{' \
    -e "s|shop\.example|$name|" \
    -e 's|/run/nginx\.pid|/tmp/nginx.pid|' \
    -e 's|/var/log/nginx/error\.log|/dev/stderr|' \
    -e 's|/var/log/nginx/x402jobs\.log|/dev/stdout|' \
    -e '}' "${SHIPPED:-/etc/x402jobs/nginx.conf}" >/tmp/nginx.conf

exec nginx -c /tmp/nginx.conf -g 'daemon off;' "$@"

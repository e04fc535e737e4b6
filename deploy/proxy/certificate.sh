#!/bin/sh
# certificate.sh FOLDER: a self-signed certificate for localhost, and for $HEART_NAME if it is set, unless the folder has one.
set -eu
cd "$1"
refuse() { echo "certificate.pem: $1" >&2; exit 1; }
if [ -e certificate.pem ]; then
    for file in certificate.pem certificate.pem.key; do
        [ -r "$file" ] || refuse "user $(id -u) cannot read $file"
    done
    openssl x509 -in certificate.pem -noout || refuse "not a certificate"
    openssl x509 -in certificate.pem -noout -checkend 0 > /dev/null ||
        refuse "it has expired: put a new one in its place, or remove it, and a self-signed one is made"
    exit 0
fi
[ -w . ] || refuse "there is none, and user $(id -u) cannot make one"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=${HEART_NAME:-localhost}" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1${HEART_NAME:+,DNS:$HEART_NAME}" \
    -keyout certificate.pem.key -out certificate.part 2> /dev/null
mv certificate.part certificate.pem # last, so that one without its key is never taken for done
echo "made a self-signed certificate, good for a year"

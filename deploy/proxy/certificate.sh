#!/bin/sh
# certificate.sh FOLDER: create a self-signed certificate for localhost and $HEART_NAME (if set), unless the folder has one.
set -eu
cd "$1"
refuse() { echo "certificate.pem: $1" >&2; exit 1; }
if [ -e certificate.pem ]; then
    for file in certificate.pem certificate.pem.key; do
        [ -r "$file" ] || refuse "user $(id -u) cannot read $file"
    done
    openssl x509 -in certificate.pem -noout || refuse "not a certificate"
    openssl x509 -in certificate.pem -noout -checkend 0 > /dev/null ||
        refuse "it has expired: replace it, or remove it to get a self-signed one"
    exit 0
fi
[ -w . ] || refuse "missing, and user $(id -u) cannot create one"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=${HEART_NAME:-localhost}" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1${HEART_NAME:+,DNS:$HEART_NAME}" \
    -keyout certificate.pem.key -out certificate.part 2> /dev/null
mv certificate.part certificate.pem # last, so that a certificate never exists without its key
echo "created a self-signed certificate, valid for a year"

#!/bin/sh
# Makes what `docker compose up` needs and is not there: a folder of secrets, and an .env that names it.
# What is there stays as it is. No secret stands on a command line: printf is the shell's own.
set -eu
umask 077
cd "$(dirname "$0")/.."

folder=secrets
mkdir -p "$folder"  # mode 0700: only root and you come in; within, each container's user must be able to read

random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

keep() {
    if [ ! -s "$folder/$1" ]; then
        printf '%s\n' "$2" >"$folder/$1"
        echo "made $folder/$1"
    fi
    chmod 0444 "$folder/$1"
}

keep jwt_secret "$(random)"
keep database_superuser_password "$(random)"
keep database_url "postgresql://aiwm:$(random)@timescaledb:5432/aiwm"
keep grafana_database_password "$(random)"
keep grafana_admin_password "$(random)"
keep grafana_secret_key "$(random)"

# Grafana's at a mail server, if it has one: yours to fill in.
[ -e "$folder/smtp_password" ] || : >"$folder/smtp_password"
chmod 0644 "$folder/smtp_password"

if [ ! -e .env ]; then
    sed "s|^AIWM_SECRETS=\$|AIWM_SECRETS=./$folder|" .env.example >.env
    echo "made .env: look through it before you start"
fi

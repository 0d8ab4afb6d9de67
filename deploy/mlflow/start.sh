#!/usr/bin/env bash
# The MLflow server of this project: runs in PostgreSQL, artifacts in a folder or bucket, a password
# for everybody. Artifacts go through the server, so that jobs need no rights to the bucket.
set -euo pipefail
: "${DATABASE_URI:?postgresql+psycopg2://USER:PASSWORD@HOST:5432/mlflow}"
: "${ARTIFACTS:?a folder, or s3://BUCKET/FOLDER}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?password of the user admin; used at the first start}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?any long random text, the same after every restart}"
HOST="${HOST:-127.0.0.1}"
PORT="${PORT:-5000}"
# Names under which the server may be called, against DNS rebinding.
ALLOWED_HOSTS="${ALLOWED_HOSTS:-localhost:$PORT,127.0.0.1:$PORT}"

umask 077
MLFLOW_AUTH_CONFIG_PATH="$(mktemp)"
export MLFLOW_AUTH_CONFIG_PATH
# Nobody sees what he was given no right to; the password itself is read from the environment.
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $DATABASE_URI
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI

# Not as an option: command lines are readable for every user of the host.
export MLFLOW_BACKEND_STORE_URI="$DATABASE_URI"
exec mlflow server --app-name basic-auth --host "$HOST" --port "$PORT" --workers "${WORKERS:-4}" \
    --artifacts-destination "$ARTIFACTS" \
    --allowed-hosts "$ALLOWED_HOSTS"

#!/bin/sh
# Makes the roles and the database of the oracle in a new PostgreSQL server, as its superuser.  The image of PostgreSQL
# runs it at the first start; on a machine of your own:
#
#     ORACLE_OWNER_PASSWORD=... ORACLE_SERVICE_PASSWORD=... runuser -u postgres -- sh postgres-roles.sh
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set owner_password `printf %s "$ORACLE_OWNER_PASSWORD"`
\set service_password `printf %s "$ORACLE_SERVICE_PASSWORD"`
CREATE ROLE oracle_app NOLOGIN;
CREATE ROLE oracle_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE oracle_service LOGIN PASSWORD :'service_password' IN ROLE oracle_app;
CREATE DATABASE oracle OWNER oracle_owner ENCODING 'UTF8' TEMPLATE template0;
\connect oracle
REVOKE TEMPORARY ON DATABASE oracle FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO oracle_owner;
SQL

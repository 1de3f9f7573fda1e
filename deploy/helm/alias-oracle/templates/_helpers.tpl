{{- define "alias-oracle.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "alias-oracle.fullname" -}}
{{- $name := include "alias-oracle.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "alias-oracle.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "alias-oracle.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels by which Services and policies choose pods: they must never change. */}}
{{- define "alias-oracle.selector" -}}
app.kubernetes.io/name: {{ include "alias-oracle.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "alias-oracle.labels" -}}
{{ include "alias-oracle.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mojaloop
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: dict "root" "component" "name" and, where there are some, "labels" "annotations". */}}
{{- define "alias-oracle.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "alias-oracle.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "alias-oracle.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "alias-oracle.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "alias-oracle.keys" -}}
{{- .Values.keys.existingSecret | default (printf "%s-keys" (include "alias-oracle.fullname" .)) -}}
{{- end -}}

{{- define "alias-oracle.firstOperator" -}}
{{- .Values.firstOperator.secretName | default (printf "%s-first-operator" (include "alias-oracle.fullname" .)) -}}
{{- end -}}

{{/* Where PostgreSQL is, by postgresql.mode: host, port, database, user, secret, owner, ownerSecret, ca, ssl. */}}
{{- define "alias-oracle.database" -}}
{{- $full := include "alias-oracle.fullname" . -}}
{{- $config := .Values.config -}}
{{- $own := printf "%s-db-service" $full -}}
{{- if eq .Values.postgresql.mode "cnpg" -}}
{host: "{{ $full }}-db-rw", port: 5432, database: oracle, ssl: true,
 user: oracle_service, secret: {name: "{{ $own }}", key: password},
 owner: oracle_owner, ownerSecret: {name: "{{ $full }}-db-app", key: password},
 ca: {name: "{{ $full }}-db-ca", key: ca.crt}}
{{- else if eq .Values.postgresql.mode "percona" -}}
{host: "{{ $full }}-db-primary", port: 5432, database: oracle, ssl: true,
 user: oracle-service, secret: {name: "{{ $full }}-db-pguser-oracle-service", key: password},
 owner: oracle-owner, ownerSecret: {name: "{{ $full }}-db-pguser-oracle-owner", key: password},
 ca: {name: "{{ $full }}-db-cluster-cert", key: ca.crt}}
{{- else if eq .Values.postgresql.mode "single" -}}
{host: "{{ $full }}-db", port: 5432, database: oracle, ssl: false,
 user: oracle_service, secret: {name: "{{ $own }}", key: password},
 owner: oracle_owner, ownerSecret: {name: "{{ $own }}", key: owner-password}, ca: {}}
{{- else if eq .Values.postgresql.mode "external" -}}
{{- $own := dict "name" (printf "%s-db" $full) "key" "password" -}}
{{- $secret := $config.db_secret | default $own -}}
{{- /* Without any value, <fullname>-db holds both passwords. */ -}}
{{- $ownerSecret := $config.db_owner_secret -}}
{{- if not (or $config.db_secret $config.db_password $ownerSecret) -}}
{{- $ownerSecret = dict "name" $own.name "key" "owner-password" -}}
{{- end -}}
{{- toJson (dict "host" $config.db_host "port" $config.db_port "database" $config.db_database
      "ssl" (or $config.db_ssl_enabled (not (empty $config.db_ssl_ca_secret)))
      "user" $config.db_user "secret" $secret
      "owner" (ternary $config.db_owner_user $config.db_user (not (empty $ownerSecret)))
      "ownerSecret" ($ownerSecret | default $secret) "ca" $config.db_ssl_ca_secret) -}}
{{- else -}}
{{- fail (printf "postgresql.mode is %q: use external, cnpg, percona or single" .Values.postgresql.mode) -}}
{{- end -}}
{{- end -}}

{{/* The URL of PostgreSQL without a password: dict "db" "user". */}}
{{- define "alias-oracle.databaseUrl" -}}
{{- $ssl := ternary (ternary "?sslmode=require" "?sslmode=verify-full&sslrootcert=/etc/oracle/db-ca/ca.crt" (empty .db.ca)) "" .db.ssl -}}
{{- $hosts := list -}}
{{- $port := .db.port -}}
{{- range splitList "," .db.host }}{{ $hosts = append $hosts (printf "%s:%v" (trim .) $port) }}{{ end -}}
{{- printf "postgresql://%s@%s/%s%s" (.user | urlquery) (join "," $hosts) .db.database $ssl -}}
{{- end -}}

{{/* The environment of a container that migrates, or that makes keys in the database, as the owner of the tables. */}}
{{- define "alias-oracle.ownerEnv" -}}
{{- $db := include "alias-oracle.database" . | fromYaml -}}
- name: ORACLE_DATABASE_URL
  value: {{ include "alias-oracle.databaseUrl" (dict "db" $db "user" $db.owner) | quote }}
- name: ORACLE_DATABASE_PASSWORD
  valueFrom: {secretKeyRef: {{ toJson $db.ownerSecret }}}
{{- end -}}

{{/* A container that migrates: dict "root" "stage" "name". */}}
{{- define "alias-oracle.migrate" -}}
- name: {{ .name }}
  image: {{ include "alias-oracle.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [migrate, --stage, {{ .stage }}, --wait, {{ .root.Values.migration.waitSeconds | quote }}]
  env:
    {{- include "alias-oracle.ownerEnv" .root | nindent 4 }}
  {{- include "alias-oracle.small" .root | nindent 2 }}
{{- end -}}

{{/* What every short-lived container of the image has: resources, rights, directories. */}}
{{- define "alias-oracle.small" -}}
resources:
  requests: {cpu: 50m, memory: 96Mi}
  limits: {memory: 256Mi}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: run, mountPath: /var/lib/oracle}
  {{- if (include "alias-oracle.database" . | fromYaml).ca }}
  - {name: db-ca, mountPath: /etc/oracle/db-ca, readOnly: true}
  {{- end }}
{{- end -}}

{{/* The volumes that every pod of the image has. */}}
{{- define "alias-oracle.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
- {name: run, emptyDir: {sizeLimit: 64Mi}}
{{- with (include "alias-oracle.database" . | fromYaml).ca }}
- name: db-ca
  secret: {secretName: {{ .name }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end -}}

{{- define "alias-oracle.redisUrl" -}}
{{- if .Values.config.redis_url -}}
{{ .Values.config.redis_url }}
{{- else if .Values.valkey.enabled -}}
redis://{{ include "alias-oracle.fullname" . }}-valkey:6379/0
{{- else -}}
{{- fail "set config.redis_url, or valkey.enabled to true" -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the password of Redis: name and key; empty if there is none. */}}
{{- define "alias-oracle.redisSecret" -}}
{{- if .Values.config.redis_url -}}
{{- with .Values.config.redis_secret }}{{ toJson . }}{{ end -}}
{{- else -}}
{{- dict "name" (printf "%s-valkey" (include "alias-oracle.fullname" .)) "key" "password" | toJson -}}
{{- end -}}
{{- end -}}

{{/*
How a probe asks: dict "root" "path".  A kubelet has no client certificate.  Where the hub listener demands one, the
command asks whether all processes run, and the admin listener whether lookups can be answered.
*/}}
{{- define "alias-oracle.probe" -}}
{{- $tls := .root.Values.tls -}}
{{- if not $tls.hub.requireClient -}}
httpGet: {path: {{ .path }}, port: http{{ if $tls.hub.secretName }}, scheme: HTTPS{{ end }}}
{{- else if eq .path "/live" -}}
exec: {command: [oracle, health]}
{{- else -}}
httpGet: {path: {{ .path }}, port: admin{{ if $tls.admin.secretName }}, scheme: HTTPS{{ end }}}
{{- end -}}
{{- end -}}

{{- define "alias-oracle.probeTimes" -}}
{{- omit . "enabled" | toYaml }}
{{- end -}}

{{/* The environment that reaches PostgreSQL as the role of the service. */}}
{{- define "alias-oracle.serviceDatabaseEnv" -}}
{{- $db := include "alias-oracle.database" . | fromYaml -}}
- name: ORACLE_DATABASE_URL
  value: {{ include "alias-oracle.databaseUrl" (dict "db" $db "user" $db.user) | quote }}
- name: ORACLE_DATABASE_PASSWORD
  valueFrom: {secretKeyRef: {{ toJson $db.secret }}}
{{- end -}}

{{/* The settings of TLS, for each listener that has a Secret. */}}
{{- define "alias-oracle.tlsEnv" -}}
{{- $lines := "" -}}
{{- range $listener, $tls := .Values.tls -}}
{{- if $tls.secretName -}}
{{- $setting := printf "ORACLE_%s_TLS" (snakecase $listener | upper) }}
{{- $place := printf "/etc/oracle/tls/%s" (kebabcase $listener) }}
{{- $env := dict "CERTIFICATE" (printf "%s/tls.crt" $place) "KEY" (printf "%s/tls.key" $place) -}}
{{- with $tls.clientCAKey }}{{ $_ := set $env "CLIENT_CA" (printf "%s/%s" $place .) }}{{ end -}}
{{- if $tls.requireClient }}{{ $_ := set $env "REQUIRE_CLIENT" "on" }}{{ end -}}
{{- range $name, $value := $env -}}
{{- $lines = printf "%s- name: %s_%s\n  value: %q\n" $lines $setting $name $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- trimSuffix "\n" $lines -}}
{{- end -}}

{{/* What the pods of the two Jobs have in common. */}}
{{- define "alias-oracle.setupPodSpec" -}}
serviceAccountName: {{ include "alias-oracle.fullname" . }}-setup
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: OnFailure
{{- with include "alias-oracle.pullSecrets" . }}
{{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
volumes:
  {{- include "alias-oracle.volumes" . | nindent 2 }}
  - {name: setup, configMap: {name: {{ include "alias-oracle.fullname" . }}-setup}}
  # Only the containers that call Kubernetes mount it.
  - name: kubernetes
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken: {path: token, expirationSeconds: 3600}
        - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
        - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A container that runs setup.py: dict "root" "arguments" and, where it needs the database, "database" true. */}}
{{- define "alias-oracle.setupContainer" -}}
image: {{ include "alias-oracle.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python, /etc/oracle/setup/setup.py]
args: {{ toJson .arguments }}
{{- if .database }}
env:
  {{- include "alias-oracle.serviceDatabaseEnv" .root | nindent 2 }}
{{- end }}
{{ include "alias-oracle.small" .root }}
  - {name: setup, mountPath: /etc/oracle/setup, readOnly: true}
  - {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{/* The template of the setup Job: random secrets, then the schema, then the keys that need it. */}}
{{- define "alias-oracle.setupPod" -}}
{{- $full := include "alias-oracle.fullname" . -}}
{{- $mode := .Values.postgresql.mode -}}
{{- $random := list -}}
{{- if and .Values.valkey.enabled (not .Values.config.redis_url) -}}
{{- $random = append $random (dict "name" "valkey-password" "arguments" (list "random" (printf "%s-valkey" $full) "password=random:32")) -}}
{{- end -}}
{{- if eq $mode "cnpg" -}}
{{- $random = append $random (dict "name" "db-password" "arguments" (list "random" (printf "%s-db-service" $full) "--type" "kubernetes.io/basic-auth" "--label" "cnpg.io/reload=true" "username=oracle_service" "password=random:32")) -}}
{{- else if eq $mode "single" -}}
{{- $random = append $random (dict "name" "db-password" "arguments" (list "random" (printf "%s-db-service" $full) "password=random:32" "owner-password=random:32" "superuser-password=random:32")) -}}
{{- end -}}
metadata:
  labels:
    {{- include "alias-oracle.labels" (dict "root" . "component" "setup") | nindent 4 }}
spec:
  {{- include "alias-oracle.setupPodSpec" . | nindent 2 }}
  initContainers:
    {{- range $random }}
    - name: {{ .name }}
      {{- include "alias-oracle.setupContainer" (dict "root" $ "arguments" .arguments) | nindent 6 }}
    {{- end }}
    {{- if .Values.migration.enabled }}
    {{- include "alias-oracle.migrate" (dict "root" . "stage" "pre" "name" "migrate") | nindent 4 }}
    {{- end }}
  containers:
    - name: keys
      {{- $keys := list "keys" }}
      {{- if .Values.firstOperator.enabled }}{{ $keys = concat $keys (list "--first-operator" (include "alias-oracle.firstOperator" .)) }}{{ end }}
      {{- if not .Values.keys.existingSecret }}{{ $keys = concat $keys (list "--shared" (include "alias-oracle.keys" .)) }}{{ end }}
      {{- include "alias-oracle.setupContainer" (dict "root" . "arguments" $keys "database" true) | nindent 6 }}
{{- end -}}

{{/* The settings by which ALS is asked to ask this oracle. */}}
{{- define "alias-oracle.registrationEnv" -}}
{{- $registration := .Values.registration -}}
- name: ORACLE_ALS_ADMIN_URL
  value: {{ $registration.alsAdminUrl | quote }}
- name: ORACLE_ALS_ENDPOINT
  value: {{ $registration.endpoint | default (include "alias-oracle.hubUrl" .) | quote }}
- name: ORACLE_ALS_TYPES
  value: {{ join "," $registration.types | quote }}
{{- with $registration.currencies }}
- name: ORACLE_ALS_CURRENCIES
  value: {{ join "," . | quote }}
{{- end }}
- name: ORACLE_ALS_DEFAULT
  value: {{ ternary "on" "off" $registration.default | quote }}
- name: ORACLE_ALS_REPLACE
  value: {{ ternary "on" "off" $registration.replace | quote }}
{{- end -}}

{{/* The address of the console: the one that is set, or that of the way in from outside, if it has TLS. */}}
{{- define "alias-oracle.consoleUrl" -}}
{{- if .Values.console.url -}}
{{ .Values.console.url }}
{{- else if .Values.gateway.enabled -}}
https://{{ .Values.gateway.host }}
{{- else if and .Values.ingress.enabled .Values.ingress.tls -}}
https://{{ .Values.ingress.hostname }}
{{- end -}}
{{- end -}}

{{/* The settings of the console, and of who can call the admin listener.  Defaults of the program are left out. */}}
{{- define "alias-oracle.peopleEnv" -}}
{{- $oidc := .Values.auth.oidc -}}
{{- $env := dict -}}
{{- if ne .Values.config.log_level "info" }}{{ $_ := set $env "LOG_LEVEL" .Values.config.log_level }}{{ end -}}
{{- if not .Values.console.enabled }}{{ $_ := set $env "CONSOLE" "off" }}
{{- else }}{{ with include "alias-oracle.consoleUrl" . }}{{ $_ := set $env "CONSOLE_URL" . }}{{ end }}{{ end -}}
{{- $ways := join "," .Values.auth.ways -}}
{{- if ne $ways "keys" }}{{ $_ := set $env "ADMIN_AUTH" $ways }}{{ end -}}
{{- with .Values.auth.proxies }}{{ $_ := set $env "ADMIN_PROXIES" (join "," .) }}{{ end -}}
{{- if $oidc.issuer -}}
{{- $_ := set $env "OIDC_ISSUER" $oidc.issuer -}}
{{- if ne $oidc.alias "main" }}{{ $_ := set $env "OIDC_ALIAS" $oidc.alias }}{{ end -}}
{{- with $oidc.audience }}{{ $_ := set $env "OIDC_AUDIENCE" . }}{{ end -}}
{{- with $oidc.clientIds }}{{ $_ := set $env "OIDC_CLIENT_IDS" (join "," .) }}{{ end -}}
{{- with $oidc.consoleClient }}{{ $_ := set $env "OIDC_CONSOLE_CLIENT" . }}{{ end -}}
{{- else if or $oidc.audience $oidc.clientIds $oidc.consoleClient -}}
{{- fail "set auth.oidc.issuer, or write the issuer into config.file" -}}
{{- end -}}
{{- with $oidc.rules }}{{ $_ := set $env "OIDC_RULES" (join "," .) }}{{ end -}}
{{- if and (or $oidc.issuer $oidc.rules) (not (has "oidc" .Values.auth.ways)) -}}
{{- fail "auth.oidc is set: add oidc to auth.ways" -}}
{{- end -}}
{{- if and .Values.auth.gatewaySecret (not (has "gateway" .Values.auth.ways)) -}}
{{- fail "auth.gatewaySecret is set: add gateway to auth.ways" -}}
{{- end -}}
{{- if and (has "gateway" .Values.auth.ways) (not .Values.auth.proxies) -}}
{{- fail "auth.ways names gateway: set auth.proxies to its addresses" -}}
{{- end -}}
{{- range $name, $value := $env }}
- name: ORACLE_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with $oidc.consoleSecret }}
- name: ORACLE_OIDC_CONSOLE_SECRET
  valueFrom: {secretKeyRef: {{ toJson . }}}
{{- end }}
{{- with .Values.auth.gatewaySecret }}
- name: ORACLE_GATEWAY_SECRET
  valueFrom: {secretKeyRef: {{ toJson . }}}
{{- end }}
{{- end -}}

{{/* How ALS reaches the hub listener. */}}
{{- define "alias-oracle.hubUrl" -}}
{{- $port := int .Values.service.port -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.tls.hub.secretName)) -}}
{{ $scheme }}://{{ .Values.serviceAlias | default (include "alias-oracle.fullname" .) }}.{{ .Release.Namespace }}.svc
{{- if ne $port (ternary 443 80 (eq $scheme "https")) }}:{{ $port }}{{ end -}}
{{- end -}}

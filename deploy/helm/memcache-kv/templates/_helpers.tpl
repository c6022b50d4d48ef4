{{- define "kv.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kv.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kv.labels" -}}
{{- $own := dict "app.kubernetes.io/managed-by" .Release.Service "app.kubernetes.io/version" .Chart.AppVersion "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")) -}}
{{- toYaml (mergeOverwrite (tpl (toYaml .Values.commonLabels) . | fromYaml) $own (include "kv.selector" . | fromYaml)) -}}
{{- end -}}

{{- /* metadata of an object: (dict "root" . "name" NAME "labels" LABELS "annotations" ANNOTATIONS) */ -}}
{{- define "kv.metadata" -}}
{{- $root := .root -}}
name: {{ .name }}
namespace: {{ .namespace | default $root.Release.Namespace }}
labels:
  {{- toYaml (mergeOverwrite (tpl (toYaml (.labels | default dict)) $root | fromYaml) (include "kv.labels" $root | fromYaml)) | nindent 2 }}
{{- with mergeOverwrite (tpl (toYaml $root.Values.commonAnnotations) $root | fromYaml) (tpl (toYaml (.annotations | default dict)) $root | fromYaml) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "kv.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "kv.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "kv.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* "yes" for several nodes, each with an address that clients learn */ -}}
{{- define "kv.isCluster" -}}
{{- if eq .Values.architecture "high-availability" }}yes{{ end -}}
{{- end -}}

{{- define "kv.isStateful" -}}
{{- if or (include "kv.isCluster" .) .Values.persistence.enabled }}yes{{ end -}}
{{- end -}}

{{- define "kv.passwordSecret" -}}
{{- if and .Values.auth.enabled (not .Values.auth.existingUsersSecret) -}}
{{- .Values.auth.existingPasswordSecret | default (include "kv.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "kv.check" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not (include "kv.isCluster" .)) -}}
{{- fail "replicaCount above 1 needs architecture=high-availability: each node has items of its own" -}}
{{- end -}}
{{- if .Values.auth.enabled -}}
{{- if not (or .Values.auth.existingUsersSecret (and .Values.auth.username (or .Values.auth.password .Values.auth.existingPasswordSecret))) -}}
{{- fail "auth.enabled needs auth.username with auth.password or auth.existingPasswordSecret, or auth.existingUsersSecret" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) -}}
{{- fail "tls.enabled needs tls.existingSecret" -}}
{{- end -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int .Values.drainSeconds) -}}
{{- fail "terminationGracePeriodSeconds must be longer than drainSeconds" -}}
{{- end -}}
{{- if and .Values.pdb.minAvailable .Values.pdb.maxUnavailable -}}
{{- fail "pdb.minAvailable and pdb.maxUnavailable exclude each other" -}}
{{- end -}}
{{- end -}}

{{- define "kv.args" -}}
- --memory-limit={{ int .Values.memoryLimit }}
- --conn-limit={{ int .Values.maxConnections }}
- --listen=0.0.0.0:{{ int .Values.containerPorts.memcached }}
- --admin-listen=0.0.0.0:{{ int .Values.containerPorts.admin }}
- --drain-seconds={{ int .Values.drainSeconds }}
{{- with .Values.maxItemSize }}
- --max-item-size={{ . }}
{{- end }}
{{- if .Values.persistence.enabled }}
- --journal=/data
- --fsync={{ .Values.persistence.fsync }}
{{- end }}
{{- if .Values.auth.existingUsersSecret }}
- --enable-sasl
- --auth-file=/etc/memcache-kv/auth/users
{{- end }}
{{- if .Values.tls.enabled }}
- --enable-ssl
- -o
- ssl_chain_cert=/etc/memcache-kv/tls/tls.crt,ssl_key=/etc/memcache-kv/tls/tls.key
{{- if .Values.tls.requireClientCertificates }}
- -o
- ssl_ca_cert=/etc/memcache-kv/tls/ca.crt,ssl_verify_mode=2
{{- end }}
{{- end }}
{{- if include "kv.isCluster" . }}
- --cluster-file=/etc/memcache-kv/cluster/nodes
{{- end }}
{{- if .Values.metrics.existingTokenSecret }}
- --admin-token-file=/etc/memcache-kv/token/token
{{- end }}
{{- with .Values.extraArgs }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{- /* a probe: (dict "values" VALUES "custom" VALUES "path" PATH) */ -}}
{{- define "kv.probe" -}}
{{- if .custom }}
{{- toYaml .custom }}
{{- else if .values.enabled }}
httpGet:
  path: {{ .path }}
  port: admin
{{ toYaml (omit .values "enabled") }}
{{- end }}
{{- end -}}

{{- define "kv.podAnnotations" -}}
{{- if .Values.metrics.enabled }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.containerPorts.admin | quote }}
{{- end }}
{{- with mergeOverwrite (tpl (toYaml .Values.commonAnnotations) . | fromYaml) (tpl (toYaml .Values.podAnnotations) . | fromYaml) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kv.volumeMounts" -}}
{{- $mounts := list -}}
{{- if .Values.persistence.enabled }}{{ $mounts = append $mounts (dict "name" "data" "mountPath" "/data") }}{{ end -}}
{{- range $name := include "kv.mounted" . | fromJsonArray -}}
{{- $mounts = append $mounts (dict "name" $name "mountPath" (printf "/etc/memcache-kv/%s" $name) "readOnly" true) -}}
{{- end -}}
{{- with concat $mounts (tpl (toYaml .Values.extraVolumeMounts) . | fromYamlArray) }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- /* the names of the volumes with files for the server, which are the names of their directories too */ -}}
{{- define "kv.mounted" -}}
{{- $names := list -}}
{{- if include "kv.isCluster" . }}{{ $names = append $names "cluster" }}{{ end -}}
{{- if .Values.auth.enabled }}{{ $names = append $names "auth" }}{{ end -}}
{{- if .Values.tls.enabled }}{{ $names = append $names "tls" }}{{ end -}}
{{- if .Values.metrics.existingTokenSecret }}{{ $names = append $names "token" }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "kv.volumes" -}}
{{- $auth := .Values.auth.existingUsersSecret | default (include "kv.passwordSecret" .) -}}
{{- $secrets := dict "auth" $auth "tls" .Values.tls.existingSecret "token" .Values.metrics.existingTokenSecret -}}
{{- $volumes := list -}}
{{- range $name := include "kv.mounted" . | fromJsonArray -}}
{{- if hasKey $secrets $name -}}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" (get $secrets $name) "defaultMode" 288)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" $name "configMap" (dict "name" (printf "%s-%s" (include "kv.fullname" $) $name))) -}}
{{- end -}}
{{- end -}}
{{- with concat $volumes (tpl (toYaml .Values.extraVolumes) . | fromYamlArray) }}{{ toYaml . }}{{ end -}}
{{- end -}}

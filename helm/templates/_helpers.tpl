{{- define "responder.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- define "responder.selector" -}}
app.kubernetes.io/name: responder
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "responder.labels" -}}
{{ include "responder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- define "responder.account" -}}
{{- if .Values.serviceAccount.create -}}{{ .Values.serviceAccount.name | default (include "responder.name" .) }}{{- else -}}{{ .Values.serviceAccount.name | default "default" }}{{- end -}}
{{- end -}}
{{- /*
What the armed rules write, from files/permissions.yaml (made by "responder rbac --chart"; never by hand).
Argument: [$, everywhere]; everywhere true gives rules about nodes and clusters, false the others. Rules of one's own bring
rbac.write.permissions, as "responder rbac --config" prints them.
*/ -}}
{{- define "responder.writes" -}}
{{- $root := index . 0 -}}
{{- $everywhere := index . 1 -}}
{{- $table := $root.Files.Get "files/permissions.yaml" | fromYaml -}}
{{- $found := list -}}
{{- range $entry := $root.Values.config.act -}}
  {{- $name := kindIs "map" $entry | ternary (get (kindIs "map" $entry | ternary $entry dict) "rule") $entry -}}
  {{- $known := get $table.rules (toString $name) -}}
  {{- if $known -}}
    {{- if eq $known.everywhere $everywhere -}}{{- $found = concat $found $known.rules -}}{{- end -}}
  {{- else if not $root.Values.rbac.write.permissions -}}
    {{- fail (printf "config.act arms %s, which is no shipped rule: put the rules that \"responder rbac --config\" prints for it under rbac.write.permissions" (toString $name)) -}}
  {{- end -}}
{{- end -}}
{{- if and $root.Values.config.act (not $everywhere) -}}{{- $found = concat $found $root.Values.rbac.write.permissions -}}{{- end -}}
{{- if $found -}}{{- $found | uniq | toYaml -}}{{- end -}}
{{- end -}}

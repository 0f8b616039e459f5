{{- define "tfo.labels" -}}
{{ include "tfo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tfo.selector" -}}
app.kubernetes.io/name: tfo
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tfo.name" -}}
{{- if contains "tfo" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-tfo" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* A value as TOML writes it: JSON's strings, numbers and lists of these are TOML's. */ -}}
{{- define "tfo.toml" -}}
{{ . | toJson }}
{{- end }}

{{/* Labels of every object of the chart. */}}
{{- define "polyglot-operator.labels" -}}
{{ include "polyglot-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels that select the operator's pod. */}}
{{- define "polyglot-operator.selector" -}}
app.kubernetes.io/name: polyglot-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Name of the cluster-wide role: the release's own, so that two operators on one cluster don't share it. */}}
{{- define "polyglot-operator.clusterRoleName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

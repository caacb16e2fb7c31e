# Reads what the pods of a namespace use, again and again.
#
#   usage.sh NAMESPACE COUNT SECONDS
#
# Leaves in /millrace/usage: the answers of the kubelets, or of the metrics API where those may not be asked.
ns=$1 count=$2 seconds=$3
out=/millrace/usage
nodes=$(kubectl get pods --namespace "$ns" -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' 2>>$out/errors.txt | sort -u)
i=0
while [ $i -lt "$count" ]; do
    for node in $nodes; do
        kubectl get --request-timeout=10s --raw "/api/v1/nodes/$node/proxy/stats/summary" >"$out/$i-$node.summary.json" 2>>$out/errors.txt ||
            kubectl get --request-timeout=10s --raw "/apis/metrics.k8s.io/v1beta1/namespaces/$ns/pods" >"$out/$i.metrics.json" 2>>$out/errors.txt
    done
    i=$((i + 1))
    [ $i -lt "$count" ] && sleep "$seconds"
done
exit 0

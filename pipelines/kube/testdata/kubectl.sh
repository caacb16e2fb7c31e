#!/bin/sh
# Stands in for kubectl: a pod that waits for 1 s, runs for 7, or for 1 where $LOG says something of its log, and then ends as
# $END says. What is asked is noted in calls.
cd "$(dirname "$0")" || exit
echo "$*" >>calls
age=$(($(date +%s) - $(cat began)))
runs=7
[ -n "$LOG" ] && runs=1
case "$*" in
*"get pods -l"*) ;;
*" create "*) date +%s >began ;;
*--watch*)
    case $WATCH in
    forbidden)
        echo "pods is forbidden" >&2
        exit 1 ;;
    dumb) exec sleep 60 ;;
    esac
    printf 'ADDED||Pending|'
    sleep 1
    echo '||ContainerCreating|.'
    echo 'MODIFIED||Running||2026-01-02T03:04:05Z||.'
    case $WATCH in
    closed) exit 0 ;;
    broken)
        echo 'ERROR|||||.'
        exec sleep 60 ;;
    esac
    sleep $runs
    case $END in
    done) echo 'MODIFIED||Succeeded|0|||.' ;;
    deleted) echo 'DELETED||Running||2026-01-02T03:04:05Z||.' ;;
    drained) echo 'MODIFIED|2026-01-02T03:04:09Z|Running||2026-01-02T03:04:05Z||.' ;;
    esac
    exec sleep 60 ;;
*"-o jsonpath="*)
    if [ "$age" -lt 1 ]; then
        echo '|Pending|||ContainerCreating|.'
    elif [ "$age" -le "$runs" ]; then
        echo '|Running||2026-01-02T03:04:05Z||.'
    elif [ "$END" = deleted ]; then
        echo 'Error from server (NotFound): pods "task" not found' >&2
        exit 1
    else
        echo '|Succeeded|0|||.'
    fi ;;
*"-o json"*) echo '{}' ;;
*" logs "*)
    printf 'first\nwhat it '
    tries=$(grep -c ' logs ' calls)
    case $LOG in
    late) [ "$tries" -lt 3 ] && exit 0 ;;
    cut) [ "$tries" -lt 2 ] && exit 1 ;;
    never) exit 0 ;;
    esac
    echo printed ;;
esac

#!/bin/sh
# Reports to a web hook how a pass ended: for --after, --after-success or --after-failure of
# rollforward(8), which passes everything in the environment.
#
#     after = /usr/local/lib/rollforward/after-webhook.sh /etc/rollforward/webhook.url
#
# The file contains only the URL. Anyone who knows it can post, so it is never an argument.
set -eu

file=${1:?usage: after-webhook.sh FILE}
read -r url <"$file" || [ -n "$url" ]

# A JSON string. Paths and messages contain no line breaks.
text() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g' | tr -d '\000-\037')"
}

# A member without a value is null.
member() {
    printf '"%s": ' "$1"
    if [ -n "$2" ]; then text "$2"; else printf null; fi
}

body=$(
    printf '{"exit_status": %d, ' "$ROLLFORWARD_EXIT_STATUS"
    member command "$ROLLFORWARD_COMMAND" && printf ', '
    member state "$ROLLFORWARD_STATE" && printf ', '
    member cause "${ROLLFORWARD_CAUSE-}" && printf ', '
    member message "${ROLLFORWARD_MESSAGE-}" && printf ', '
    member repo "$ROLLFORWARD_REPO" && printf ', '
    member new_backup "${ROLLFORWARD_NEW_BACKUP-}" && printf ', '
    member position "${ROLLFORWARD_POSITION-}" && printf '}'
)

printf 'url = "%s"\n' "$url" |
    curl --config - --fail --silent --show-error --output /dev/null --max-time 60 \
        --header 'Content-Type: application/json' --data-binary "$body"

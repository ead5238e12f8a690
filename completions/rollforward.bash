# Completion of rollforward(8) for bash: commands, the options of a command, paths, backups.
# Sourced by bash-completion, which is not needed to use it: `. completions/rollforward.bash`.
# shellcheck shell=bash

# The value of an option that is on the command line already: --repo DIR, --repo=DIR, -r DIR, -rDIR.
_rollforward_value() {
    local long=$1 short=$2 i word value=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "$long" || (-n $short && $word == "$short") ]]; then
            # Where = breaks words it is one of its own.
            if [[ ${COMP_WORDS[i + 1]-} == = ]]; then
                value=${COMP_WORDS[i + 2]-}
            else
                value=${COMP_WORDS[i + 1]-}
            fi
        elif [[ $word == "$long"=* ]]; then
            value=${word#*=}
        elif [[ -n $short && $word == "$short"?* ]]; then
            value=${word#"$short"}
        fi
    done
    # What the user typed is still quoted; a ~ is what is wanted most.
    value=${value#[\"\']}
    value=${value%[\"\']}
    value=${value//\\/}
    [[ ${value%%/*} != \~ ]] || value=$HOME${value:1}
    printf '%s' "$value"
}

# The names of the backups in the repository that begin with $1. Only names of our form: others may
# hold words that the shell would run.
_rollforward_backups() {
    local repo path name d='[0-9]'
    repo=$(_rollforward_value --repo -r)
    [[ -n $repo ]] || return 0
    for path in "$repo"/backups/[0-9]*T[0-9]*Z-*; do
        name=${path##*/}
        [[ -e $path && $name =~ ^$d{8}T$d{6}Z-[0-9a-f]{4}$ && $name == "$1"* ]] &&
            printf '%s\n' "$name"
    done
}

_rollforward() {
    local commands='run seed follow restore open list verify prune pin unpin prove log report status'
    local everywhere='--repo --scratch --primary --defaults-file --password-file --mysqld
        --mysqld-user --mysqld-option --first-backup --connect-timeout --max-failures --backoff-base --backoff-cap
        --poll-interval --ping-timeout --stall-timeout --start-timeout --shutdown-timeout
        --check-time --compare-time --min-interval --keep-count --keep-within --keep-hourly
        --keep-daily --keep-weekly --keep-monthly --keep-yearly --drop-after --jobs --compression-level --compress-stream --keep-scratch
        --slots --slot-wait --before --after --after-success --after-failure --hook-timeout
        --checkpoint --metrics-file --verbose --quiet --log-file --help --version'
    local switches=' --compress-stream --keep-scratch --no-journal --allow-upgrade --prove --windows --writable --ddl --over --replica --json --dry-run --verbose --quiet --help --version '
    local cur=${COMP_WORDS[COMP_CWORD]} prev='' command='' names='' option='' glued='' i word
    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()

    # The command is the first word that is neither an option nor the value of one.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = ]]; then
            ((i++))
        elif [[ $word == --*=* ]]; then
            :
        elif [[ $word == -[rs] || ($word == --* && $switches != *" $word "*) ]]; then
            [[ ${COMP_WORDS[i + 1]-} == = ]] || ((i++))
        elif [[ $word != -* && " $commands " == *" $word "* ]]; then
            command=$word
            break
        fi
    done

    # Is it the value of an option that is wanted? --repo DIR, --repo=DIR, in one word or three.
    if [[ $cur == = && $prev == --* ]]; then
        option=$prev cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $cur == --*=* ]]; then
        option=${cur%%=*} glued=$option= cur=${cur#*=}
    elif [[ $prev == -r || $prev == -s || ($prev == --?* && $prev != *=*) ]] &&
        [[ $switches != *" $prev "* ]]; then
        option=$prev
    fi

    case $option in
    '') ;;
    -r | -s | --repo | --scratch | --to | --all)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    --defaults-file | --password-file | --mysqld | --checkpoint | --metrics-file | --log-file | \
        --before | --on-data | --after*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    --mysqld-user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
    --primary) mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") ;;
    --from) mapfile -t COMPREPLY < <(compgen -W 'dump clone dir: stream:' -- "$cur") ;;
    --first-backup) mapfile -t COMPREPLY < <(compgen -W 'refuse dump clone' -- "$cur") ;;
    esac
    if [[ -n $option ]]; then
        [[ -z $glued ]] || COMPREPLY=("${COMPREPLY[@]/#/$glued}")
        return 0
    fi

    if [[ $cur == -* ]]; then
        names=$everywhere
        case $command in
        '') names+=' --to --until --over --replica --tables --writable --on-data --windows --from --position --allow-upgrade --prove --no-journal --all --max-age --max-proof-age
            --max-lag --every --since --table --ddl --json --dry-run --reason --for' ;;
        run) names+=' --allow-upgrade --prove --no-journal --on-data' ;;
        seed) names+=' --from --position' ;;
        restore) names+=' --to --until --over --replica --dry-run' ;;
        open) names+=' --until --tables --writable' ;;
        list) names+=' --json --windows' ;;
        verify) names+=' --json' ;;
        status) names+=' --json --all --max-age --max-proof-age --max-lag' ;;
        prove) names+=' --until' ;;
        follow) names+=' --every' ;;
        log) names+=' --since --until --table --ddl --json' ;;
        report) names+=' --json --since' ;;
        prune) names+=' --dry-run' ;;
        pin) names+=' --reason --for' ;;
        esac
    elif [[ -z $command ]]; then
        names=$commands
    elif [[ $command == restore || $command == open || $command == verify || $command == prove || $command == pin || $command == unpin ]]; then
        mapfile -t COMPREPLY < <(_rollforward_backups "$cur")
        return 0
    fi
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$cur")
}

complete -F _rollforward rollforward

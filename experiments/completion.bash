# Completes `python -m experiments.NAME`, its options and their values in Bash:
#
#     source experiments/completion.bash
#
# The experiment itself says what fits, by Typer's protocol.
_experiments_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

_experiments_complete() {
    local IFS=$'\n' word=${COMP_WORDS[COMP_CWORD]} module=${COMP_WORDS[2]} path
    COMPREPLY=()
    if [[ ${COMP_WORDS[1]} != -m ]]; then
        return
    elif ((COMP_CWORD == 2)); then
        for path in "$_experiments_folder"/*/__main__.py; do
            path=${path%/__main__.py}
            [[ experiments.${path##*/} == "$word"* ]] && COMPREPLY+=("experiments.${path##*/}")
        done
    elif ((COMP_CWORD > 2)) && [[ $module == experiments.* ]]; then
        COMPREPLY=($(env _EXPERIMENTS_COMPLETE=complete_bash COMP_CWORD=$((COMP_CWORD - 2)) \
            COMP_WORDS="${COMP_WORDS[*]:2}" "$1" -m "$module" 2>/dev/null))
    fi
}

complete -o default -F _experiments_complete python python3

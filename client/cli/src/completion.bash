# Completion of cove for bash 4 and later, with or without the package bash-completion.
_cove() {
    # bash cuts words at `:`, `=` and `@` too, of which names of images are full: they are put together again.
    local words=() word=0 rest piece blank start=0 position=0
    for piece in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        rest=${COMP_LINE:position}
        blank=${rest%%[![:space:]]*}
        if ((position == 0 || ${#blank})); then
            words+=("$piece")
            start=$((position + ${#blank}))
        else
            words[${#words[@]} - 1]+=$piece
        fi
        position=$((position + ${#blank} + ${#piece}))
    done
    # What stands behind the cursor is not part of the question.
    word=${COMP_LINE:start:COMP_POINT-start}
    words[${#words[@]} - 1]=$word

    COMPREPLY=()
    mapfile -t COMPREPLY < <(
        COVE_COMPLETE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) cove -- "${words[@]}" 2>/dev/null
    )
    # bash replaces only what stands behind the last of its cuts.
    local cuts='' cut kept=''
    for cut in : = @; do
        [[ $COMP_WORDBREAKS != *"$cut"* ]] || cuts+=$cut
    done
    [[ -z $cuts || $word != *["$cuts"]* ]] || kept=${word%"${word##*["$cuts"]}"}
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    # Something has to follow on a folder or on the name of a value.
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[=/:] ]] || compopt -o nospace 2>/dev/null
}
complete -o bashdefault -o nosort -F _cove cove 2>/dev/null || complete -o bashdefault -F _cove cove

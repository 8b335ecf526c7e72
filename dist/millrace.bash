# SPDX-License-Identifier: BSD-2-Clause
# bash completion for millrace(1); verbs and options are asked of the program itself.
_millrace()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb='' i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--name) ((i++)) ;;
		-*) ;;
		*) verb=${COMP_WORDS[i]}; break ;;
		esac
	done
	COMPREPLY=()
	case $prev in
	--name)
		local names
		names=$(cd /run/millrace 2>/dev/null && ls -- *.sock 2>/dev/null)
		mapfile -t COMPREPLY < <(compgen -W "${names//.sock/}" -- "$cur")
		return ;;
	--state) mapfile -t COMPREPLY < <(compgen -W 'new established closing closed' -- "$cur"); return ;;
	--proto) mapfile -t COMPREPLY < <(compgen -W 'tcp udp icmp icmp6 gre esp sctp' -- "$cur"); return ;;
	--log) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	esac
	if [[ $cur == -* ]]; then
		local options
		options=$(millrace help $verb 2>/dev/null | sed -n 's/^ *\(--[a-z]*\).*/\1/p')
		mapfile -t COMPREPLY < <(compgen -W "$options --name --json --help" -- "$cur")
		return
	fi
	case $verb in
	'') mapfile -t COMPREPLY < <(compgen -W "$(millrace help | sed -n '/^verbs/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$cur") ;;
	run | check | reload) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	show)
		mapfile -t COMPREPLY < <(compgen -W 'interfaces pipelines stages flows drops routes neighbours nat frames workers config' -- "$cur") ;;
	flows) mapfile -t COMPREPLY < <(compgen -W 'delete' -- "$cur") ;;
	nat) mapfile -t COMPREPLY < <(compgen -W 'who' -- "$cur") ;;
	help)
		mapfile -t COMPREPLY < <(compgen -W "config $(millrace help | sed -n '/^verbs/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$cur") ;;
	esac
}
complete -o filenames -F _millrace millrace

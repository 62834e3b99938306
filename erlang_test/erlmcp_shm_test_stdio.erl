%% A node as the server that a client starts: another process, which is spoken to through its standard input and output.
-module(erlmcp_shm_test_stdio).

-export([node_port/1, node_port/2, say/2, hear/1, rest/1, request/3, modern/3, note/2]).

%% The node's stdin is closed when the shell has copied what we say. A line that is no JSON object ends this test.
node_port(Args) ->
    node_port(Args, "/dev/stderr").

node_port(Args, Log) ->
    Erl = os:find_executable("erl"),
    Ebin = filename:dirname(code:which(erlmcp_shm)),
    %% `cat' ends on a line of its own, so that the node sees the end of its input while we still read its output.
    Script = "while IFS= read -r line; do [ \"$line\" = '*end*' ] && break; printf '%s\\n' \"$line\"; done | \"$0\" \"$@\" 2>>'" ++ Log ++ "'",
    open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", Script, Erl, "-noshell", "-pa", Ebin | Args] ++ ["-s", "erlmcp_shm", "stdio"]},
        {line, 1 bsl 20},
        binary,
        exit_status
    ]).

say(Port, Text) ->
    true = port_command(Port, [Text, $\n]).

hear(Port) ->
    receive
        {Port, {data, {eol, Line}}} ->
            {ok, Message} = erlmcp_shm_json:decode(Line),
            Message
    after 30000 -> error(nothing_heard)
    end.

rest(Port) ->
    say(Port, "*end*"),
    rest(Port, []).

rest(Port, Messages) ->
    receive
        {Port, {data, {eol, Line}}} ->
            {ok, #{} = Message} = erlmcp_shm_json:decode(Line),
            rest(Port, [Message | Messages]);
        {Port, {exit_status, Status}} ->
            {lists:reverse(Messages), Status}
    after 30000 -> error({no_end, Messages})
    end.

%%% Messages

request(Id, Method, Params) ->
    json(#{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}).

modern(Id, Method, Params) ->
    Meta = #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => #{}},
    request(Id, Method, Params#{'_meta' => Meta}).

note(Method, Params) ->
    json(#{jsonrpc => <<"2.0">>, method => Method, params => Params}).

json(Term) ->
    {ok, Json} = erlmcp_shm_json:encode(Term),
    Json.

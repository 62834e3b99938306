#!/usr/bin/env escript
%% -*- erlang -*-
%% An MCP server over standard input and output whose tools come and go: `define' makes a tool that converts a number,
%% `forget' takes it away. Clients are told that the list is another; programs that read the shared memory see it there.
%%
%%   ERL_LIBS=_build/default/lib examples/dynamic_tools/dynamic_tools.escript /dev/shm/conversions.bin
%%
%% What a tool computes stands in its entry's metadata. So the store is all the state that there is: a server that is
%% killed has every tool again at its next start.
-mode(compile).

main([Path]) ->
    ok = application:load(erlmcp_shm),
    ok = application:set_env(erlmcp_shm, claude_flow, #{shared_memory => #{path => Path, size => 1048576}}),
    {ok, _} = erlmcp_shm:start(),
    ok = erlmcp_shm_exporter:export_batch([
        {tool, <<"define">>,
            schema(#{name => string, factor => number, offset => number}),
            #{description => <<"Makes a tool of that name, which gives x * factor + offset">>}},
        {tool, <<"forget">>, schema(#{name => string}), #{description => <<"Takes such a tool away">>}}
    ]),
    ok = erlmcp_shm_handler:set(fun call/2),
    %% Ends the node when the client closes the input.
    ok = erlmcp_shm:stdio(),
    timer:sleep(infinity).

call({call_tool, <<"define">>, #{<<"name">> := Name, <<"factor">> := Factor, <<"offset">> := Offset}}, _Context) when
    is_number(Factor), is_number(Offset)
->
    case is_free(Name) andalso re:run(Name, "^[a-z_]{1,64}$") of
        {match, _} ->
            published(
                erlmcp_shm_exporter:export_tool_schema(Name, schema(#{x => number}), #{
                    description => <<"x * factor + offset">>, factor => Factor, offset => Offset
                })
            );
        _ ->
            {error, <<"a name is of small letters, and not one of the tools that are always there">>}
    end;
call({call_tool, <<"forget">>, #{<<"name">> := Name}}, _Context) when is_binary(Name) ->
    case conversion(Name) of
        {ok, _, _} -> published(erlmcp_shm_exporter:invalidate(tool, Name));
        none -> {error, <<"there is no such conversion">>}
    end;
call({call_tool, Name, #{<<"x">> := X}}, _Context) when is_number(X) ->
    case conversion(Name) of
        {ok, Factor, Offset} -> {ok, iolist_to_binary(io_lib:format("~p", [X * Factor + Offset]))};
        none -> {error, not_found}
    end;
call({call_tool, _, _}, _Context) ->
    {error, <<"the arguments are not those of the schema">>};
call(_, _Context) ->
    {error, not_found}.

is_free(Name) ->
    is_binary(Name) andalso Name =/= <<"define">> andalso Name =/= <<"forget">>.

conversion(Name) ->
    case erlmcp_shm_exporter:lookup(tool, Name) of
        {ok, _, #{metadata := Metadata}} ->
            case erlmcp_shm_json:decode(Metadata) of
                {ok, #{<<"factor">> := Factor, <<"offset">> := Offset}} -> {ok, Factor, Offset};
                _ -> none
            end;
        {error, _} ->
            none
    end.

published(ok) -> {ok, <<"done">>};
published({error, Reason}) -> {error, iolist_to_binary(io_lib:format("~p", [Reason]))}.

schema(Properties) ->
    #{
        type => <<"object">>,
        properties => maps:map(fun(_, Type) -> #{type => atom_to_binary(Type)} end, Properties),
        required => [atom_to_binary(Name) || Name <- maps:keys(Properties)]
    }.

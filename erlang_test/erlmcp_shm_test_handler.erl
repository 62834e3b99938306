%% What a node of the tests answers by itself. Its tools also publish: so a client can say when.
-module(erlmcp_shm_test_handler).

-behaviour(erlmcp_shm_handler).

-export([handle/2]).

-define(E, erlmcp_shm_exporter).
-define(VERSION, <<"io.modelcontextprotocol/protocolVersion">>).

-spec handle(erlmcp_shm_handler:request(), erlmcp_shm_handler:context()) -> erlmcp_shm_handler:reply().
handle({call_tool, <<"add">>, #{<<"a">> := A, <<"b">> := B}}, _) ->
    {ok, integer_to_binary(A + B)};
handle({call_tool, <<"fails">>, _}, _) ->
    {error, <<"as it should">>};
%% The revision that the call was made in: the ones before 2026-07-28 do not say.
handle({call_tool, <<"revision">>, _}, #{meta := Meta}) ->
    {ok, maps:get(?VERSION, Meta, <<"initialized">>)};
handle({call_tool, <<"publish">>, #{<<"uri">> := Uri, <<"text">> := Text}}, _) ->
    case ?E:export_resource(Uri, Text, #{mime_type => <<"text/plain">>}) of
        ok -> {ok, <<"published">>};
        {error, Reason} -> {error, atom_to_binary(Reason)}
    end;
handle({call_tool, <<"withdraw">>, #{<<"uri">> := Uri}}, _) ->
    ok = ?E:invalidate(resource, Uri),
    {ok, <<"withdrawn">>};
%% Each number that a call is carried out with, is written down.
handle({call_tool, <<"once">>, #{<<"number">> := Number}}, _) ->
    {ok, File} = application:get_env(erlmcp_shm, once),
    ok = file:write_file(File, [integer_to_binary(Number), $\n], [append]),
    {ok, <<"done">>};
%% A counter that goes up every so many ms, from where it was, until it is stopped; then, where it ended.
handle({call_tool, <<"count">>, #{<<"uri">> := Uri, <<"ms">> := Ms}}, _) ->
    Before =
        case ?E:lookup(resource, Uri) of
            {ok, Text, _} -> binary_to_integer(Text);
            {error, not_found} -> 0
        end,
    true = register(?MODULE, spawn(fun() -> count(Uri, Ms, Before + 1) end)),
    {ok, <<"counting">>};
handle({call_tool, <<"stop">>, _}, _) ->
    ?MODULE ! {stop, self()},
    receive
        {stopped, Last} -> {ok, integer_to_binary(Last)}
    end;
handle({call_tool, <<"tools">>, #{<<"number">> := Number}}, _) ->
    Name = fun(N) -> <<"tool ", (integer_to_binary(N))/binary>> end,
    ok = ?E:export_batch([{tool, Name(N), {json, <<"{}">>}, #{}} || N <- lists:seq(1, Number)]),
    {ok, <<"published">>};
%% Memory of this node in kB, now and at most so far, and its fullest mailbox.
handle({call_tool, <<"sizes">>, _}, _) ->
    {ok, Status} = file:read_file("/proc/self/status"),
    Kb = fun(Name) ->
        {match, [Digits]} = re:run(Status, [Name, ":\\s*([0-9]+) kB"], [{capture, all_but_first, binary}]),
        binary_to_integer(Digits)
    end,
    Waiting = [N || Pid <- processes(), {message_queue_len, N} <- [process_info(Pid, message_queue_len)]],
    erlmcp_shm_json:encode(#{rss => Kb("VmRSS"), peak => Kb("VmHWM"), mailbox => lists:max(Waiting)});
handle({call_tool, <<"seed">>, _}, _) ->
    ok = ?E:export_batch(seeds()),
    {ok, <<"seeded">>};
%% From now on, what is published is all there is.
handle({call_tool, <<"complete">>, _}, _) ->
    ok = ?E:export_batch([
        {capability, <<"resources">>, #{listChanged => true, subscribe => true}, #{complete => true}},
        {capability, <<"tools">>, #{listChanged => true}, #{complete => true}},
        {capability, <<"prompts">>, #{listChanged => true}, #{complete => true}}
    ]),
    {ok, <<"complete">>};
handle({read_resource, <<"made:", What/binary>>}, _) ->
    {ok, <<"made ", What/binary>>};
handle({get_prompt, <<"made">>, Given}, _) ->
    Text = iolist_to_binary([[K, $=, V, $;] || {K, V} <- lists:sort(maps:to_list(Given))]),
    {ok, #{messages => [#{role => <<"user">>, content => #{type => <<"text">>, text => Text}}]}};
handle(_, _) ->
    {error, not_found}.

count(Uri, Ms, N) ->
    ok = ?E:export_resource(Uri, integer_to_binary(N), #{mime_type => <<"text/plain">>}),
    receive
        {stop, From} -> From ! {stopped, N}
    after Ms -> count(Uri, Ms, N + 1)
    end.

seeds() ->
    Schema = #{
        type => <<"object">>,
        properties => #{a => #{type => <<"integer">>}, b => #{type => <<"integer">>}},
        required => [<<"a">>, <<"b">>]
    },
    Ask = #{role => <<"user">>, content => #{type => <<"text">>, text => <<"Greet {{who}} in {{tongue}}, not {{nobody}}.">>}},
    [
        {resource, <<"file:///a.txt">>, <<"plain é"/utf8>>, #{
            mime_type => <<"text/plain">>,
            name => <<"a">>,
            title => <<"The first">>,
            description => <<"of all">>,
            annotations => #{audience => [<<"user">>], priority => 0.5},
            ttl_ms => 4321,
            vendor => #{x => [1, 2.5, null]}
        }},
        {resource, <<"file:///dir/b.json">>, <<"{\"b\": [1, 2]}">>, #{mime_type => <<"application/json">>}},
        {resource, <<"file:///dir/c">>, <<0, 255, 1, 2>>, #{mime_type => <<"image/png">>}},
        {resource, <<"untyped">>, <<"text of no type">>, #{}},
        {resource, <<"untyped:bytes/">>, <<255, 254>>, #{}},
        {tool, <<"add">>, Schema, #{
            title => <<"Adds">>,
            description => <<"two numbers">>,
            annotations => #{readOnlyHint => true},
            output_schema => #{type => <<"object">>},
            vendor => 7
        }},
        {tool, <<"fails">>, #{type => <<"object">>}, #{}},
        {prompt, <<"greet">>, #{
            arguments => [#{name => <<"who">>, required => true}, #{name => <<"tongue">>, description => <<"which">>}],
            messages => [Ask]
        }, #{title => <<"Greeting">>, description => <<"greets somebody">>}},
        {prompt, <<"plain">>, #{messages => [Ask#{content := #{type => <<"text">>, text => <<"Hello">>}}]}, #{}},
        {capability, <<"resources">>, #{listChanged => true, subscribe => true}, #{}},
        {capability, <<"tools">>, #{listChanged => true}, #{}},
        {capability, <<"prompts">>, #{listChanged => true}, #{}},
        {capability, <<"server_info">>, #{name => <<"test node">>, version => <<"1.2.3">>}, #{}},
        {capability, <<"instructions">>, {json, <<"\"Ask kindly.\"">>}, #{}}
    ].

%% The node that clients of others are tried on: what the MCP project's conformance suite asks a server to have, and
%% what interop/*.mjs ask for besides. Static things are published, the rest is a handler's.
%%
%%   erl -noshell -pa FOLDER -run interop_server listen STORE PAGE
%%   erl -noshell -pa FOLDER -run interop_server publish STORE -erlmcp_shm claude_flow CONFIG -s erlmcp_shm stdio
-module(interop_server).

-behaviour(erlmcp_shm_handler).

-export([listen/1, publish/1, handle/2]).

-define(PNG, <<"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==">>).
-define(WAV, <<"UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=">>).

%% @doc Serves over HTTP, SSE and WebSocket until standard input ends; the first line says where.
-spec listen([string()]) -> no_return().
listen([Store, Page]) ->
    {ok, _} = erlmcp_shm:start(),
    ok = publish([Store]),
    Config = #{port => 0, page_size => list_to_integer(Page)},
    Urls = [
        {http, "http", started(erlmcp_shm_transport_http, Config#{path => "/mcp", compression => gzip})},
        {sse, "http", started(erlmcp_shm_transport_sse, Config#{path => "/mcp/sse"})},
        {websocket, "ws", started(erlmcp_shm_transport_ws, Config#{path => "/mcp/ws", compression => permessage_deflate})}
    ],
    {ok, Json} = erlmcp_shm_json:encode(
        maps:from_list([{Name, iolist_to_binary([Scheme, "://localhost:", integer_to_list(Port), Path])} || {Name, Scheme, {Port, Path}} <- Urls])
    ),
    io:format("~s~n", [Json]),
    _ = io:get_line(""),
    ok = erlmcp_shm:stop(),
    halt(0).

started(Transport, Config) ->
    {ok, Pid} = Transport:start_link(Config, self()),
    #{port := Port, path := Path} = Transport:get_info(Pid),
    {Port, Path}.

%% @doc Before anybody can ask for it.
-spec publish([string()]) -> ok.
publish([Store]) ->
    {ok, Exporter} = erlmcp_shm_exporter:start_link(#{path => Store}),
    %% Who starts this node goes on to other things.
    true = unlink(Exporter),
    ok = erlmcp_shm_handler:set(?MODULE),
    ok = erlmcp_shm_exporter:export_capability(<<"server_info">>, #{name => <<"interop">>, version => <<"1">>}, #{}),
    ok = erlmcp_shm_exporter:export_capability(<<"instructions">>, {json, <<"\"Ask me anything\"">>}, #{}),
    ok = erlmcp_shm_exporter:export_batch(
        [{tool, Name, Schema, #{description => Description}} || {Name, Description, Schema} <- tools()] ++
            [{resource, Uri, Data, Meta} || {Uri, Data, Meta} <- resources()] ++
            [{prompt, Name, Prompt, #{description => Description}} || {Name, Description, Prompt} <- prompts()]
    ).

%%% What is published

tools() ->
    [{Name, Description, object([])} || {Name, Description} <- plain_tools()] ++
        [
            {<<"test_sampling">>, <<"Has the client's model complete a prompt">>, object([prompt])},
            {<<"test_elicitation">>, <<"Has the client's user answer">>, object([message])},
            {<<"json_schema_2020_12_tool">>, <<"Has a schema of many keywords">>, {json, schema_2020_12()}},
            {<<"test_x_mcp_header">>, <<"Has arguments that headers repeat">>,
                #{
                    type => <<"object">>,
                    properties => #{
                        region => #{type => <<"string">>, 'x-mcp-header' => <<"Region">>},
                        limit => #{type => <<"integer">>, 'x-mcp-header' => <<"Limit">>}
                    },
                    required => [<<"region">>]
                }},
            {<<"sum">>, <<"Adds two numbers">>,
                #{
                    type => <<"object">>,
                    properties => #{a => #{type => <<"number">>}, b => #{type => <<"number">>}},
                    required => [<<"a">>, <<"b">>]
                }},
            {<<"publish">>, <<"Publishes a text">>, object([uri, text])},
            {<<"withdraw">>, <<"Withdraws a text">>, object([uri])}
        ].

plain_tools() ->
    [
        {<<"test_simple_text">>, <<"Answers text">>},
        {<<"test_image_content">>, <<"Answers an image">>},
        {<<"test_audio_content">>, <<"Answers audio">>},
        {<<"test_embedded_resource">>, <<"Answers a resource">>},
        {<<"test_multiple_content_types">>, <<"Answers all of them">>},
        {<<"test_tool_with_logging">>, <<"Logs">>},
        {<<"test_tool_with_progress">>, <<"Reports progress">>},
        {<<"test_error_handling">>, <<"Fails">>},
        {<<"test_elicitation_sep1034_defaults">>, <<"Asks with defaults">>},
        {<<"test_elicitation_sep1330_enums">>, <<"Asks for choices">>},
        {<<"test_missing_capability">>, <<"Needs a model">>},
        {<<"test_streaming_elicitation">>, <<"Reports progress, and asks">>},
        {<<"test_logging_tool">>, <<"Logs, if it is to">>},
        {<<"test_trigger_tool_change">>, <<"Changes the list of tools">>},
        {<<"test_trigger_prompt_change">>, <<"Changes the list of prompts">>},
        {<<"test_input_required_result_elicitation">>, <<"Asks who">>},
        {<<"test_input_required_result_sampling">>, <<"Asks the model">>},
        {<<"test_input_required_result_list_roots">>, <<"Asks for roots">>},
        {<<"test_input_required_result_request_state">>, <<"Asks, and remembers">>},
        {<<"test_input_required_result_multiple_inputs">>, <<"Asks all at once">>},
        {<<"test_input_required_result_multi_round">>, <<"Asks twice">>},
        {<<"test_input_required_result_tampered_state">>, <<"Asks, and trusts nobody">>},
        {<<"test_input_required_result_capabilities">>, <<"Asks what can be asked">>},
        {<<"wait">>, <<"Waits for ever, and notes its end">>},
        {<<"panic">>, <<"Ends its process">>}
    ].

object(Names) ->
    #{
        type => <<"object">>,
        properties => maps:from_list([{Name, #{type => <<"string">>}} || Name <- Names]),
        required => [atom_to_binary(Name) || Name <- Names]
    }.

schema_2020_12() ->
    <<
        "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"$defs\":{\"address\":{"
        "\"$anchor\":\"addressDef\",\"type\":\"object\",\"properties\":{\"street\":{\"type\":\"string\"},"
        "\"city\":{\"type\":\"string\"}}}},\"properties\":{\"name\":{\"type\":\"string\"},"
        "\"address\":{\"$ref\":\"#/$defs/address\"},\"contactMethod\":{\"type\":\"string\",\"enum\":[\"phone\",\"email\"]},"
        "\"phone\":{\"type\":\"string\"},\"email\":{\"type\":\"string\"}},"
        "\"allOf\":[{\"anyOf\":[{\"required\":[\"phone\"]},{\"required\":[\"email\"]}]}],"
        "\"if\":{\"properties\":{\"contactMethod\":{\"const\":\"phone\"}},\"required\":[\"contactMethod\"]},"
        "\"then\":{\"required\":[\"phone\"]},\"else\":{\"required\":[\"email\"]},\"additionalProperties\":false}"
    >>.

resources() ->
    [
        {<<"test://static-text">>, <<"This is the content of the static text resource.">>, #{mime_type => <<"text/plain">>, title => <<"Text">>}},
        {<<"test://static-binary">>, base64:decode(?PNG), #{mime_type => <<"image/png">>, ttl_ms => 500, cache_scope => <<"private">>}},
        {<<"test://watched-resource">>, <<"Watched resource content">>, #{mime_type => <<"text/plain">>}},
        {<<"test://waits">>, <<"0">>, #{mime_type => <<"text/plain">>}}
        | [{<<"test://many/", (integer_to_binary(N))/binary>>, <<"one of many">>, #{}} || N <- lists:seq(10, 30)]
    ].

prompts() ->
    [
        {<<"test_simple_prompt">>, <<"No arguments">>, prompt([], [text(<<"This is a simple prompt for testing.">>)])},
        {<<"test_prompt_with_arguments">>, <<"Two arguments">>,
            prompt([arg1, arg2], [text(<<"Prompt with arguments: arg1='{{arg1}}', arg2='{{arg2}}'">>)])},
        {<<"test_prompt_with_image">>, <<"An image">>,
            prompt([], [#{type => image, data => ?PNG, mimeType => <<"image/png">>}, text(<<"Please analyze the image above.">>)])}
    ].

prompt(Arguments, Contents) ->
    #{
        arguments => [#{name => atom_to_binary(Name), required => true} || Name <- Arguments],
        messages => messages(Contents)
    }.

messages(Contents) ->
    [#{role => <<"user">>, content => typed(Content)} || Content <- Contents].

text(Text) -> #{type => text, text => Text}.

%% Types are atoms here for brevity only.
typed(#{type := Type} = Content) -> Content#{type := atom_to_binary(Type)}.

%%% What is not

%% @doc The handler.
-spec handle(erlmcp_shm_handler:request(), erlmcp_shm_handler:context()) -> erlmcp_shm_handler:reply().
handle({call_tool, Name, Arguments}, Context) ->
    tool(Name, Arguments, Context);
handle({read_resource, <<"test://template/", Rest/binary>>}, _) ->
    case binary:split(Rest, <<"/data">>) of
        [Id, <<>>] ->
            {ok, Text} = erlmcp_shm_json:encode(#{id => Id, templateTest => true, data => <<"Data for ID: ", Id/binary>>}),
            Uri = <<"test://template/", Rest/binary>>,
            {ok, #{contents => [#{uri => Uri, mimeType => <<"application/json">>, text => Text}]}};
        _ ->
            {error, not_found}
    end;
handle(list_resource_templates, _) ->
    {ok, [#{uriTemplate => <<"test://template/{id}/data">>, name => <<"template">>, mimeType => <<"application/json">>}]};
handle({get_prompt, <<"test_prompt_with_embedded_resource">>, #{<<"resourceUri">> := Uri}}, _) ->
    Resource = #{uri => Uri, mimeType => <<"text/plain">>, text => <<"Embedded resource content for testing.">>},
    {ok, #{messages => messages([#{type => resource, resource => Resource}, text(<<"Please process the embedded resource above.">>)])}};
handle({get_prompt, <<"test_input_required_result_prompt">>, _}, #{inputs := #{<<"user_context">> := #{<<"content">> := #{<<"context">> := About}}}}) ->
    {ok, #{messages => messages([text(<<"Prompt with context: ", About/binary>>)])}};
handle({get_prompt, <<"test_input_required_result_prompt">>, _}, _) ->
    {ask, #{<<"user_context">> => form(<<"What context should the prompt use?">>, context)}, undefined};
handle({complete, _, #{<<"value">> := Value}, _}, _) ->
    {ok, [Whole || Whole <- [<<"paris">>, <<"park">>, <<"party">>], binary:longest_common_prefix([Whole, Value]) =:= byte_size(Value)]};
handle(_, _) ->
    {error, not_found}.

tool(<<"test_simple_text">>, _, _) ->
    {ok, <<"This is a simple text response for testing.">>};
tool(<<"test_image_content">>, _, _) ->
    content([image()]);
tool(<<"test_audio_content">>, _, _) ->
    content([#{type => audio, data => ?WAV, mimeType => <<"audio/wav">>}]);
tool(<<"test_embedded_resource">>, _, _) ->
    content([resource(<<"test://embedded-resource">>, <<"text/plain">>, <<"This is an embedded resource content.">>)]);
tool(<<"test_multiple_content_types">>, _, _) ->
    Resource = resource(<<"test://mixed-content-resource">>, <<"application/json">>, <<"{\"test\":\"data\",\"value\":123}">>),
    content([text(<<"Multiple content types test:">>), image(), Resource]);
tool(<<"test_tool_with_logging">>, _, #{log := Log}) ->
    _ = [begin ok = Log(<<"info">>, What), timer:sleep(50) end || What <- [<<"Tool execution started">>, <<"Tool processing data">>, <<"Tool execution completed">>]],
    {ok, <<"Tool with logging executed successfully">>};
tool(<<"test_tool_with_progress">>, _, #{progress := Progress}) ->
    _ = [begin ok = Progress(Done, 100, <<"Completed">>), timer:sleep(50) end || Done <- [0, 50, 100]],
    {ok, <<"Done">>};
tool(<<"test_error_handling">>, _, _) ->
    {error, <<"This tool intentionally returns an error for testing">>};
tool(<<"test_logging_tool">>, _, #{log := Log}) ->
    ok = Log(<<"info">>, <<"Diagnostic">>),
    {ok, <<"Logging evaluated">>};
tool(<<"test_x_mcp_header">>, _, _) ->
    {ok, <<"Headers agree">>};
tool(<<"json_schema_2020_12_tool">>, _, _) ->
    {ok, <<"Called">>};
tool(<<"test_trigger_tool_change">>, _, _) ->
    changed(tool, <<"wait">>, object([]));
tool(<<"test_trigger_prompt_change">>, _, _) ->
    changed(prompt, <<"test_simple_prompt">>, prompt([], [text(<<"This is a simple prompt for testing.">>)]));
%% What the client is asked for.
tool(<<"test_sampling">>, _, #{inputs := #{<<"model">> := Answer}}) ->
    {ok, <<"LLM response: ", (said(Answer))/binary>>};
tool(<<"test_sampling">>, #{<<"prompt">> := Prompt}, _) ->
    {ask, #{<<"model">> => sample(Prompt)}, undefined};
tool(<<"test_missing_capability">>, _, #{inputs := #{<<"model">> := Answer}}) ->
    {ok, said(Answer)};
tool(<<"test_missing_capability">>, _, _) ->
    {ask, #{<<"model">> => sample(<<"Anything">>)}, undefined};
tool(<<"test_elicitation">>, _, #{inputs := #{<<"user">> := #{<<"action">> := Action} = Answer}}) ->
    {ok, Content} = erlmcp_shm_json:encode(maps:get(<<"content">>, Answer, #{})),
    {ok, <<"User response: action=", Action/binary, ", content=", Content/binary>>};
tool(<<"test_elicitation">>, #{<<"message">> := Message}, _) ->
    {ask, #{<<"user">> => form(Message, response)}, undefined};
tool(<<"test_elicitation_sep1034_defaults">>, _, Context) ->
    asked(<<"Please review and update the form fields with defaults">>, defaults(), Context);
tool(<<"test_elicitation_sep1330_enums">>, _, Context) ->
    asked(<<"Please select options from the enum fields">>, enums(), Context);
tool(<<"test_streaming_elicitation">>, _, #{inputs := #{<<"ok">> := _}}) ->
    {ok, <<"Streaming complete">>};
tool(<<"test_streaming_elicitation">>, _, #{progress := Progress}) ->
    ok = Progress(50, 100, <<"Half">>),
    {ask, #{<<"ok">> => form(<<"Go on?">>, ok)}, undefined};
tool(<<"test_input_required_result_elicitation">>, _, #{inputs := #{<<"user_name">> := #{<<"content">> := #{<<"name">> := Name}}}}) when is_binary(Name) ->
    {ok, <<"Hello, ", Name/binary, "!">>};
tool(<<"test_input_required_result_elicitation">>, _, _) ->
    {ask, #{<<"user_name">> => form(<<"What is your name?">>, name)}, undefined};
tool(<<"test_input_required_result_sampling">>, _, #{inputs := #{<<"capital_question">> := Answer}}) ->
    {ok, said(Answer)};
tool(<<"test_input_required_result_sampling">>, _, _) ->
    {ask, #{<<"capital_question">> => sample(<<"What is the capital of France?">>)}, undefined};
tool(<<"test_input_required_result_list_roots">>, _, #{inputs := #{<<"client_roots">> := #{<<"roots">> := Roots}}}) ->
    {ok, iolist_to_binary(lists:join(", ", [Uri || #{<<"uri">> := Uri} <- Roots]))};
tool(<<"test_input_required_result_list_roots">>, _, _) ->
    {ask, #{<<"client_roots">> => roots()}, undefined};
tool(<<"test_input_required_result_request_state">>, _, #{inputs := #{<<"confirm">> := _}, state := kept}) ->
    {ok, <<"state-ok">>};
tool(<<"test_input_required_result_request_state">>, _, _) ->
    {ask, #{<<"confirm">> => form(<<"Please confirm">>, ok)}, kept};
tool(<<"test_input_required_result_multiple_inputs">>, _, #{inputs := #{<<"user_name">> := _, <<"greeting">> := _, <<"client_roots">> := _}, state := kept}) ->
    {ok, <<"All of them">>};
tool(<<"test_input_required_result_multiple_inputs">>, _, _) ->
    {ask,
        #{
            <<"user_name">> => form(<<"What is your name?">>, name),
            <<"greeting">> => sample(<<"Generate a greeting">>),
            <<"client_roots">> => roots()
        },
        kept};
tool(<<"test_input_required_result_multi_round">>, _, #{state := {name, Name}, inputs := #{<<"step2">> := #{<<"content">> := #{<<"color">> := Color}}}}) ->
    {ok, <<Name/binary, " likes ", Color/binary>>};
tool(<<"test_input_required_result_multi_round">>, _, #{state := started, inputs := #{<<"step1">> := #{<<"content">> := #{<<"name">> := Name}}}}) ->
    {ask, #{<<"step2">> => form(<<"Step 2: What is your favorite color?">>, color)}, {name, Name}};
tool(<<"test_input_required_result_multi_round">>, _, _) ->
    {ask, #{<<"step1">> => form(<<"Step 1: What is your name?">>, name)}, started};
tool(<<"test_input_required_result_tampered_state">>, _, #{inputs := #{<<"confirm">> := _}, state := kept}) ->
    {ok, <<"integrity-ok">>};
tool(<<"test_input_required_result_tampered_state">>, _, _) ->
    {ask, #{<<"confirm">> => form(<<"Please confirm">>, ok)}, kept};
tool(<<"test_input_required_result_capabilities">>, _, #{inputs := Inputs}) when map_size(Inputs) > 0 ->
    {ok, <<"capabilities-ok">>};
tool(<<"test_input_required_result_capabilities">>, _, #{capabilities := Capabilities}) ->
    All = #{<<"elicitation">> => form(<<"Who?">>, value), <<"sampling">> => sample(<<"Anything">>)},
    case maps:with(maps:keys(Capabilities), All) of
        None when map_size(None) =:= 0 -> {ok, <<"Nothing can be asked">>};
        Requests -> {ask, Requests, kept}
    end;
%% For the clients.
tool(<<"sum">>, #{<<"a">> := A, <<"b">> := B}, _) when is_number(A), is_number(B) ->
    {ok, Text} = erlmcp_shm_json:encode(A + B),
    {ok, Text};
tool(<<"sum">>, _, _) ->
    {error, {-32602, <<"a and b are numbers">>}};
tool(<<"publish">>, #{<<"uri">> := Uri, <<"text">> := Text}, _) ->
    ok = erlmcp_shm_exporter:export_resource(Uri, Text, #{mime_type => <<"text/plain">>}),
    {ok, <<"Published">>};
tool(<<"withdraw">>, #{<<"uri">> := Uri}, _) ->
    ok = erlmcp_shm_exporter:invalidate(resource, Uri),
    {ok, <<"Withdrawn">>};
tool(<<"wait">>, _, #{progress := Progress}) ->
    Self = self(),
    _ = spawn(fun() -> note_end(monitor(process, Self)) end),
    ok = Progress(1, undefined, <<"Waiting">>),
    receive after infinity -> {error, not_found} end;
tool(<<"panic">>, _, _) ->
    exit(on_purpose);
tool(_, _, _) ->
    {error, not_found}.

%% That a call was ended is published: a client that has cancelled it can see that it was.
note_end(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, killed} ->
            {ok, Ended, _} = erlmcp_shm_exporter:lookup(resource, <<"test://waits">>),
            One = integer_to_binary(binary_to_integer(Ended) + 1),
            ok = erlmcp_shm_exporter:export_resource(<<"test://waits">>, One, #{mime_type => <<"text/plain">>})
    end.

content(Contents) ->
    {ok, #{content => [typed(Content) || Content <- Contents]}}.

image() -> #{type => image, data => ?PNG, mimeType => <<"image/png">>}.

resource(Uri, Type, Text) -> #{type => resource, resource => #{uri => Uri, mimeType => Type, text => Text}}.

%% It stands in the list as something else from now on.
changed(Kind, Name, Data) ->
    Description = <<"The one of ", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    ok = erlmcp_shm_exporter:export_batch([{Kind, Name, Data, #{description => Description}}]),
    {ok, <<"Changed">>}.

form(Message, Field) ->
    {<<"elicitation/create">>, #{message => Message, requestedSchema => object([Field])}}.

sample(Prompt) ->
    {<<"sampling/createMessage">>, #{messages => messages([text(Prompt)]), maxTokens => 100}}.

roots() ->
    {<<"roots/list">>, #{}}.

said(#{<<"content">> := #{<<"text">> := Text}}) -> Text;
said(_) -> <<"nothing">>.

asked(_, _, #{inputs := #{<<"user">> := Answer}}) ->
    {ok, Text} = erlmcp_shm_json:encode(Answer),
    {ok, <<"Elicitation completed: ", Text/binary>>};
asked(Message, Properties, _) ->
    Schema = #{type => <<"object">>, properties => Properties, required => []},
    {ask, #{<<"user">> => {<<"elicitation/create">>, #{message => Message, requestedSchema => Schema}}}, undefined}.

defaults() ->
    #{
        name => #{type => <<"string">>, default => <<"John Doe">>},
        age => #{type => <<"integer">>, default => 30},
        score => #{type => <<"number">>, default => 95.5},
        status => #{type => <<"string">>, enum => [<<"active">>, <<"inactive">>, <<"pending">>], default => <<"active">>},
        verified => #{type => <<"boolean">>, default => true}
    }.

enums() ->
    Options = [<<"option1">>, <<"option2">>, <<"option3">>],
    Titled = [#{const => <<"value", N>>, title => <<"Choice ", N>>} || N <- "123"],
    #{
        untitledSingle => #{type => <<"string">>, enum => Options},
        titledSingle => #{type => <<"string">>, oneOf => Titled},
        legacyEnum => #{type => <<"string">>, enum => Options, enumNames => [<<"Option ", N>> || N <- "123"]},
        untitledMulti => #{type => <<"array">>, minItems => 1, maxItems => 3, items => #{type => <<"string">>, enum => Options}},
        titledMulti => #{type => <<"array">>, minItems => 1, maxItems => 3, items => #{anyOf => Titled}}
    }.

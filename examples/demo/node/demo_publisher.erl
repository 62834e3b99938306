%% The publishing half of the demo: an Erlang node that exports this repository's files as resources,
%% its commands and 500 generated tools as tool schemas, and a few prompts and capabilities.
%%
%% Started by scripts/demo.sh with, behind `-extra': the store's path, the root of the repository, a file with
%% the names of the files to publish (each followed by a NUL), the manifest to write, the command erlmcp-shm.
%%
%% On stdout it says `ready OTP PID ENTRIES MICROSECONDS'. Then each `put URI TEXT' on stdin is answered by
%% `done'; at the end of stdin it stops.
-module(demo_publisher).

-export([start/0]).

start() ->
    spawn(fun() ->
        try
            main([file_name(Arg) || Arg <- init:get_plain_arguments()])
        catch
            Class:Reason:Stack ->
                io:format(standard_error, "~s", [erl_error:format_exception(Class, Reason, Stack)]),
                halt(1)
        end
    end).

main([Path, Root, Names, Manifest, Cli]) ->
    %% What a release says in its sys.config.
    ok = application:load(erlmcp_shm),
    ok = application:set_env(erlmcp_shm, claude_flow, #{shared_memory => #{path => Path}}),
    {ok, _} = erlmcp_shm:start(),

    Tools = demo_commands:tools(Root, Cli) ++ demo_schemas:tools(),
    Entries = resources(Root, Names) ++ Tools ++ prompts() ++ capabilities(),
    {Micros, ok} = timer:tc(fun() -> lists:foreach(fun publish/1, Entries) end),

    ok = file:write_file(Manifest, [expected(Entry) || Entry <- Entries]),
    ok = io:setopts([binary, {encoding, latin1}]),
    OtpRelease = erlang:system_info(otp_release),
    io:format("ready ~s ~s ~b ~b~n", [OtpRelease, os:getpid(), length(Entries), Micros]),
    obey().

%% The bytes of an argument, whatever the locale.
file_name(Arg) -> unicode:characters_to_binary(Arg, unicode, file:native_name_encoding()).

publish({resource, Uri, Content, Metadata}) ->
    ok = erlmcp_shm_exporter:export_resource(Uri, Content, Metadata);
publish({tool, Name, Schema, Metadata}) ->
    ok = erlmcp_shm_exporter:export_tool_schema(Name, Schema, Metadata);
publish({prompt, Name, Prompt, Metadata}) ->
    ok = erlmcp_shm_exporter:export_prompt(Name, Prompt, Metadata);
publish({capability, Name, Value, Metadata}) ->
    ok = erlmcp_shm_exporter:export_capability(Name, Value, Metadata).

obey() ->
    case io:get_line("") of
        <<"put ", Order/binary>> ->
            [Uri, Text] = binary:split(string:trim(Order), <<" ">>),
            ok = erlmcp_shm_exporter:export_resource(Uri, Text, #{}),
            io:put_chars("done\n"),
            obey();
        eof ->
            ok = erlmcp_shm:stop(),
            halt(0)
    end.

%%% What is published

resources(Root, Names) ->
    {ok, List} = file:read_file(Names),
    [resource(Root, Name) || Name <- binary:split(List, <<0>>, [global]), Name =/= <<>>].

resource(Root, Name) ->
    {ok, Content} = file:read_file(filename:join(Root, Name)),
    MimeType = #{mime_type => mime_type(filename:extension(Name))},
    %% A key may be any bytes, and so may a file's name, but JSON is text.
    Metadata =
        case unicode:characters_to_list(Name) of
            Text when is_list(Text) -> MimeType#{name => filename:basename(Name)};
            _ -> MimeType
        end,
    {resource, <<"file:///", Name/binary>>, Content, Metadata}.

mime_type(<<".md">>) -> <<"text/markdown">>;
mime_type(<<".rs">>) -> <<"text/x-rust">>;
mime_type(<<".erl">>) -> <<"text/x-erlang">>;
mime_type(<<".sh">>) -> <<"text/x-shellscript">>;
mime_type(<<".toml">>) -> <<"application/toml">>;
mime_type(<<".json">>) -> <<"application/json">>;
mime_type(<<".yml">>) -> <<"application/yaml">>;
mime_type(Text) when Text =:= <<".txt">>; Text =:= <<".lock">>; Text =:= <<".config">> ->
    <<"text/plain">>;
mime_type(_) -> <<"application/octet-stream">>.

prompts() ->
    [
        prompt(<<"review_file">>, <<"Review a file">>, <<"path">>, <<"Review {{path}}.">>),
        prompt(<<"explain_tool">>, <<"Explain a tool">>, <<"tool">>, <<"What is {{tool}} for?">>),
        prompt(<<"översätt"/utf8>>, <<"Translate">>, <<"text">>, <<"Översätt till svenska: “{{text}}”"/utf8>>)
    ].

prompt(Name, Title, Argument, Text) ->
    Prompt = #{
        arguments => [#{name => Argument, required => true}],
        messages => [#{role => <<"user">>, content => #{type => <<"text">>, text => Text}}]
    },
    {prompt, Name, Prompt, #{title => Title}}.

capabilities() ->
    {ok, Version} = application:get_key(erlmcp_shm, vsn),
    [
        {capability, <<"server_info">>, #{name => <<"erlmcp-shm-demo">>, version => list_to_binary(Version)}, #{}},
        %% JSON text is stored as it is given.
        {capability, <<"instructions">>, {json, <<"\"The files of this repository, and tools.\"">>}, #{}},
        {capability, <<"tools">>, #{listChanged => true}, #{}},
        {capability, <<"resources">>, #{listChanged => true, subscribe => true}, #{}},
        {capability, <<"prompts">>, #{listChanged => false}, #{}}
    ].

%%% The manifest

%% What a reader must find, said without the help of what it checks: a plain encoder of our own writes the JSON.
%% The form is the store's entry form. The bytes of resources are left out: those are in the file system.
expected({Kind, Key, Data, Metadata}) ->
    Bytes = bytes(Kind, Data),
    Json = demo_json:encode(Metadata),
    <<(number(Kind)):8, (byte_size(Key)):16, Key/binary, (byte_size(Bytes)):32, Bytes/binary,
        (byte_size(Json)):32, Json/binary>>.

bytes(resource, _) -> <<>>;
bytes(_, {json, Text}) -> Text;
bytes(_, Map) -> demo_json:encode(Map).

number(resource) -> 1;
number(tool) -> 2;
number(prompt) -> 3;
number(capability) -> 4.

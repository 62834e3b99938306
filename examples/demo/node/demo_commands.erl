%% This project's own commands as tools: read from what they say of themselves, so that they cannot go stale.
-module(demo_commands).

-export([tools/2]).

-type tool() :: {tool, Name :: binary(), Schema :: map(), Metadata :: map()}.

-spec tools(Root :: binary(), Cli :: binary()) -> [tool()].
tools(Root, Cli) ->
    subcommands(Cli) ++ make_targets(filename:join(Root, "Makefile")).

%%% The subcommands of erlmcp-shm, from its help texts

subcommands(Cli) ->
    [_, Commands] = binary:split(help(Cli, []), <<"Commands:\n">>),
    [Section | _] = binary:split(Commands, <<"\n\n">>),
    [
        {tool, <<"erlmcp-shm.", Name/binary>>, schema(help(Cli, [Name])), #{description => Text}}
     || [Name, Text] <- matches(<<"^  ([a-z]+) +(.*)$">>, Section), Name =/= <<"help">>
    ].

schema(Help) ->
    Arguments = matches(<<"^  ([<[])([A-Z]+)[]>]  +(.*)$">>, Help),
    Options = matches(<<"^ +(?:-., |   )--([a-z-]+)( <[A-Z]+>)?  +(.*)$">>, Help),
    Properties =
        [{lower(Name), property(<<"string">>, Text)} || [_, Name, Text] <- Arguments] ++
            [{Name, option(Value, Text)} || [Name, Value, Text] <- Options, Name =/= <<"help">>],
    #{
        type => <<"object">>,
        properties => maps:from_list(Properties),
        required => [lower(Name) || [<<"<">>, Name, _] <- Arguments],
        'additionalProperties' => false
    }.

option(<<>>, Text) ->
    property(<<"boolean">>, Text);
option(_Value, Text) ->
    case re:run(Text, "\\[default: [0-9]+\\]") of
        {match, _} -> property(<<"integer">>, Text);
        nomatch -> property(<<"string">>, Text)
    end.

property(Type, Text) ->
    case re:run(Text, "^(.*?) *\\[possible values: (.*)\\]$", [{capture, all_but_first, binary}]) of
        {match, [<<>>, Values]} -> #{type => Type, enum => values(Values)};
        {match, [Description, Values]} -> #{type => Type, description => Description, enum => values(Values)};
        nomatch -> #{type => Type, description => Text}
    end.

values(Values) -> binary:split(Values, <<", ">>, [global]).

lower(Name) -> string:lowercase(Name).

help(Cli, Args) ->
    Port = open_port({spawn_executable, Cli}, [{args, Args ++ ["-h"]}, binary, exit_status]),
    collect(Port, <<>>).

collect(Port, Text) ->
    receive
        {Port, {data, More}} -> collect(Port, <<Text/binary, More/binary>>);
        {Port, {exit_status, 0}} -> Text
    end.

%%% The targets of make, with the comments above them

make_targets(File) ->
    {ok, Makefile} = file:read_file(File),
    [
        {tool, <<"make.", Name/binary>>, #{type => <<"object">>, properties => #{}, 'additionalProperties' => false},
            metadata(Comment)}
     || [Comment, Name] <- matches(<<"(?:^# (.*)\\n)?^([a-z-]+):(?!=)">>, Makefile)
    ].

metadata(<<>>) -> #{};
metadata(Comment) -> #{description => Comment}.

matches(Pattern, Text) ->
    case re:run(Text, Pattern, [global, multiline, {capture, all_but_first, binary}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.
